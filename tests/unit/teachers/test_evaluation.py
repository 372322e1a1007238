import pytest
import torch

from autokd.errors import TeacherError
from autokd.teachers import Source, Teacher, check_teacher, evaluate_teacher
from autokd.teachers.preprocessing import plain_preprocessing


class Brightest(torch.nn.Module):
    """Says which channel is the brightest."""

    def forward(self, x):
        return x.mean((2, 3))


@pytest.fixture
def teacher():
    source = Source(network=Brightest(), preprocessing=plain_preprocessing((3, 4, 4)))
    return Teacher(source, name="t", view_shape=(3, 4, 4))


@pytest.mark.parametrize("batch_size", [1, 3, 512])
def test_accuracy_is_the_share_of_right_answers(teacher, batch_size):
    images = torch.zeros(4, 3, 4, 4, dtype=torch.uint8)
    images[torch.arange(4), torch.tensor([0, 1, 2, 0])] = 255
    labels = torch.tensor([0, 1, 2, 2])
    assert evaluate_teacher(teacher, images=images, labels=labels, batch_size=batch_size) == 0.75


def test_no_pictures_have_no_accuracy(teacher):
    with pytest.raises(ValueError, match="must not be empty"):
        evaluate_teacher(
            teacher,
            images=torch.zeros(0, 3, 4, 4, dtype=torch.uint8),
            labels=torch.zeros(0, dtype=torch.int64),
        )


@pytest.mark.parametrize("accuracy", [0.0, 0.5])
def test_a_teacher_that_is_no_better_than_the_majority_is_refused(accuracy):
    message = rf"got {100 * accuracy:.1f} % .* always saying 'cat' gives 50.0 %; check"
    with pytest.raises(TeacherError, match=message):
        check_teacher(accuracy, labels=torch.tensor([0, 1, 1, 2]), classes=("dog", "cat", "fox"))


def test_a_teacher_that_beats_the_majority_passes():
    check_teacher(0.51, labels=torch.tensor([0, 1, 1, 2]), classes=("dog", "cat", "fox"))

import os
import signal
import threading

import pytest

from autokd.study.interrupts import ending_gently


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_one_forces(number):
    asked = []
    before = signal.getsignal(number)
    with ending_gently(lambda: asked.append(True)):
        os.kill(os.getpid(), number)
        assert asked == [True]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert asked == [True]
    assert signal.getsignal(number) is before


def test_signals_are_left_alone_outside_the_main_thread():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with ending_gently(lambda: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]

"""A Gaussian process from what is known of a candidate to its accuracy."""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64

from autokd.surrogate.hyperparameters import learn_hyperparameters
from autokd.surrogate.noise import Noise

with warnings.catch_warnings():
    # linear_operator compiles a function with torch.jit.script, which torch 2.15 warns of.
    warnings.simplefilter("ignore", FutureWarning)
    from botorch.exceptions import BotorchWarning
    from botorch.models import SingleTaskGP
    from gpytorch.constraints import GreaterThan
    from gpytorch.kernels import Kernel, MaternKernel, RBFKernel, ScaleKernel
    from gpytorch.likelihoods import GaussianLikelihood
    from gpytorch.priors import GammaPrior, LogNormalPrior
    from gpytorch.utils.warnings import GPInputWarning, NumericalWarning

__all__ = ["QUARTILE", "AccuracyModel", "Evidence", "winsorise"]

_OFTEN = 60  # up to so many observations the hyperparameters are learnt anew each time
_SELDOM, _SELDOM_SHARE = 5, 0.05  # then after so many new ones, or such a share of all
_STEPS, _MORE_STEPS = 25, 12  # of the optimiser: the first time, and from the last values on
QUARTILE = 0.25
_LEAST_SPREAD = 1e-3  # of accuracies, in [0, 1]
_PREDICTED = 256  # candidates at once; the joint covariance of all is not wanted
_MOST_NOISE = 0.25  # of the variance of the accuracies, as a floor
_GUESSED_NOISE = -4.0, 0.5  # its logarithm, in their variance, and how sure that is
_LONGER = 0.5  # how unsure the logarithm is because finals are longer than trials


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What is known of candidates before they are trained, a row each.

    Attributes:
        traits: Numbers that describe the network: log latency, log parameters and the like.
        architecture: Its columns in an `Encoding`.
        recipe: The columns of the recipe.
        expected: What each earlier study would expect; none where there was no such study.
    """

    traits: Float64[np.ndarray, "count traits"]
    architecture: Float64[np.ndarray, "count architecture"]
    recipe: Float64[np.ndarray, "count recipe"]
    expected: tuple[Float64[np.ndarray, " count"], ...] = ()

    def __len__(self) -> int:
        """How many candidates."""
        return len(self.traits)

    def with_trait(self, values: Float64[np.ndarray, " count"]) -> "Evidence":
        """The same with one more trait."""
        return dataclasses.replace(self, traits=np.column_stack([self.traits, values]))

    def take(self, rows: np.ndarray) -> "Evidence":
        """Some of the rows, by index or by a mask."""
        return Evidence(
            traits=self.traits[rows],
            architecture=self.architecture[rows],
            recipe=self.recipe[rows],
            expected=tuple(one[rows] for one in self.expected),
        )


def winsorise(
    accuracies: Float64[np.ndarray, " count"], *, n_first: int
) -> Float64[np.ndarray, " count"]:
    """Accuracies in which a broken student does not bend the model.

    The first quartile of the first ones, which were not chosen for being good, is what an
    accuracy must reach to count. What lies further below it than the best lies above is lifted.

    Args:
        accuracies: At least one, in [0, 1], in the order of their trials.
        n_first: How many of them are the first ones.

    Returns:
        The same number, the good ones unchanged.
    """
    best = float(accuracies.max())
    level = float(np.quantile(accuracies[:n_first], QUARTILE))
    return np.maximum(accuracies, level - max(best - level, _LEAST_SPREAD))


@final
class AccuracyModel:
    """Accuracy as the sum of what traits, architecture and recipe say, with its uncertainty.

    Traits have a Matern kernel, each with a length of its own; the architecture's columns share
    one; the recipe's have one each. The sum learns from few trials what a product of kernels
    needs many for.

    References:
        Balandat et al., "BoTorch: A Framework for Efficient Monte-Carlo Bayesian Optimization",
        2020. https://arxiv.org/abs/1910.06403
        Hvarfner et al., "Vanilla Bayesian Optimization Performs Great in High Dimensions", 2024
        (the prior of the lengths). https://arxiv.org/abs/2402.02229
    """

    def __init__(self, *, noise: Noise | None = None) -> None:
        """Knows nothing yet.

        Args:
            noise: What seeds tell of an observed accuracy; it is guessed and learnt without.
        """
        self._noise = noise or Noise()
        self._state: dict[str, torch.Tensor] | None = None
        self._n_learnt = 0
        self._model: SingleTaskGP | None = None
        self._centre = self._spread = np.zeros(0)
        self._offset, self._scale = 0.0, 1.0

    def fit(
        self,
        evidence: Evidence,
        accuracies: Float64[np.ndarray, " count"],
        *,
        n_told: int | None = None,
        floor_std: float = 0.0,
    ) -> None:
        """Learns from candidates that were trained.

        Args:
            evidence: Of each; at least two.
            accuracies: What came of each, or how it differs from what was expected.
            n_told: How many were trained in all, where these are only some of them.
            floor_std: The noise of each is this at least; more is learnt where it is there.

        Raises:
            ValueError: There are fewer than two.
        """
        if len(evidence) < 2:
            raise ValueError(f"`evidence` must hold two candidates, got {len(evidence)}")
        self._centre = evidence.traits.mean(axis=0)
        self._spread = evidence.traits.std(axis=0) + 1e-6
        self._offset = float(accuracies.mean())
        self._scale = max(float(accuracies.std()), _LEAST_SPREAD)
        targets = torch.from_numpy((accuracies - self._offset) / self._scale)[:, None]
        with _one_thread(), warnings.catch_warnings():
            # Inputs outside the unit cube, and hyperparameters that stopped early, are wanted.
            warnings.simplefilter("ignore", BotorchWarning)
            model = SingleTaskGP(
                self._inputs(evidence),
                targets,
                likelihood=_build_likelihood(self._noise, floor_std, scale=self._scale),
                covar_module=_build_kernel(evidence),
                outcome_transform=None,
            )
            self._learn(model, n=len(evidence) if n_told is None else n_told)
        self._model = model.eval()

    def predict(
        self, evidence: Evidence
    ) -> tuple[Float64[np.ndarray, " count"], Float64[np.ndarray, " count"]]:
        """What the accuracy will be.

        Args:
            evidence: Of candidates that were not trained.

        Returns:
            The mean and the standard deviation of each, the noise of an observation in it.

        Raises:
            ValueError: `fit` was not called.
        """
        if self._model is None:
            raise ValueError("`fit` must be called before `predict`")
        with _one_thread(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)
            warnings.simplefilter("ignore", GPInputWarning)  # asked about what it has seen
            parts = [
                self._model.posterior(part, observation_noise=True)
                for part in self._inputs(evidence).split(_PREDICTED)
            ]
            mean = torch.cat([part.mean[:, 0] for part in parts]).numpy()
            variance = torch.cat([part.variance[:, 0] for part in parts])
        deviation = variance.clamp_min(1e-10).sqrt().numpy()
        return mean * self._scale + self._offset, deviation * self._scale

    def _inputs(self, evidence: Evidence) -> torch.Tensor:
        traits = (evidence.traits - self._centre) / self._spread
        return torch.from_numpy(
            np.concatenate([traits, evidence.architecture, evidence.recipe], axis=1)
        )

    def _learn(self, model: SingleTaskGP, *, n: int) -> None:
        """The hyperparameters, from the last ones on; not anew with every observation of many.

        Nothing else is taken over: priors and bounds are in the units of the observations, which
        are scaled anew each time.
        """
        if self._state is not None:
            model.load_state_dict(self._state, strict=False)
        n_new, n_wanted = n - self._n_learnt, max(_SELDOM, _SELDOM_SHARE * n)
        if self._state is not None and n > _OFTEN and 0 <= n_new < n_wanted:
            return
        steps = _STEPS if self._state is None else _MORE_STEPS
        learn_hyperparameters(model, steps=steps)
        self._state = {name: value.detach().clone() for name, value in model.named_parameters()}
        self._n_learnt = n


@contextlib.contextmanager
def _one_thread() -> Generator[None]:
    """These matrices are so small that threads only wait for each other: up to ten times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _build_likelihood(noise: Noise, floor_std: float, *, scale: float) -> GaussianLikelihood:
    """A guess at the noise, or around what seeds tell of it; never below the floor."""
    centre, spread = _GUESSED_NOISE
    if noise.is_told:
        centre = math.log(min((noise.seed_std / scale) ** 2, 1.0))
        spread = math.hypot(noise.log_spread, _LONGER)
    floor = min((floor_std / scale) ** 2, _MOST_NOISE)
    return GaussianLikelihood(
        noise_prior=LogNormalPrior(centre, spread), noise_constraint=GreaterThan(max(floor, 1e-4))
    )


def _build_kernel(evidence: Evidence) -> Kernel:
    """The sum of the three; a part that has no columns is left out."""
    n_traits, n_architecture = evidence.traits.shape[1], evidence.architecture.shape[1]
    n_recipe = evidence.recipe.shape[1]
    kernel: Kernel = ScaleKernel(
        MaternKernel(
            2.5,
            ard_num_dims=n_traits,
            active_dims=tuple(range(n_traits)),
            lengthscale_prior=_length_prior(n_traits),
        ),
        outputscale_prior=GammaPrior(2.0, 2.0),
    )
    if n_architecture:
        columns = tuple(range(n_traits, n_traits + n_architecture))
        shared = RBFKernel(
            active_dims=columns, lengthscale_prior=LogNormalPrior(math.log(2.0), 1.0)
        )
        kernel = kernel + ScaleKernel(shared, outputscale_prior=GammaPrior(2.0, 4.0))
    if n_recipe:
        start = n_traits + n_architecture
        own = RBFKernel(
            ard_num_dims=n_recipe,
            active_dims=tuple(range(start, start + n_recipe)),
            lengthscale_prior=_length_prior(n_recipe),
        )
        kernel = kernel + ScaleKernel(own, outputscale_prior=GammaPrior(2.0, 4.0))
    return kernel


def _length_prior(n: int) -> LogNormalPrior:
    """Lengths that grow with the number of columns, as distances do."""
    return LogNormalPrior(0.4 + 0.5 * math.log(n), 1.0)

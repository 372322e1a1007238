"""Learning the hyperparameters of a Gaussian process, in a process that may compute gradients."""

import multiprocessing
import os
import warnings
from multiprocessing.connection import Connection

import numpy as np
import torch

with warnings.catch_warnings():
    # linear_operator compiles a function with torch.jit.script, which torch 2.15 warns of.
    warnings.simplefilter("ignore", FutureWarning)
    from botorch.exceptions import ModelFittingError, OptimizationWarning
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.utils.warnings import NumericalWarning

__all__ = ["forbids_gradients", "learn_hyperparameters"]


def learn_hyperparameters(model: SingleTaskGP, *, steps: int) -> None:
    """Maximises the marginal likelihood, priors included.

    A model that cannot be fitted keeps the hyperparameters that it came with.

    Args:
        model: With its data; changed in place.
        steps: Of the optimiser, at most.
    """
    if not forbids_gradients():
        _fit(model, steps)
        return
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_tell, args=(model, steps, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        learnt = ours.recv()
    except EOFError:  # as where memory ran out
        learnt = {}
    child.join()
    values = {name: torch.from_numpy(value) for name, value in learnt.items()}
    model.load_state_dict(values, strict=False)


def forbids_gradients() -> bool:
    """Whether a gradient in this process would cost it its forked trainings.

    Where torch sees a GPU, its first backward pass, be it on the CPU, starts a thread for each
    device, and no process that is forked afterwards may compute a gradient. Once the GPU is in use
    students are trained on it, and nothing is forked.

    Returns:
        Whether it would.
    """
    has_idle_gpu = torch.cuda.is_available() and not torch.cuda.is_initialized()
    return has_idle_gpu and hasattr(os, "fork")


def _fit(model: SingleTaskGP, steps: int) -> None:
    likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizationWarning)
            warnings.simplefilter("ignore", NumericalWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            fit_gpytorch_mll(
                likelihood,
                optimizer_kwargs={"options": {"maxiter": steps}},
                max_attempts=1,
                pick_best_of_all_attempts=True,
            )
    except ModelFittingError:
        model.load_state_dict(before)


def _tell(model: SingleTaskGP, steps: int, parent: Connection) -> None:
    """Fits, in the child, and sends the parameters as arrays."""
    _fit(model, steps)
    learnt = {name: np.asarray(value.detach()) for name, value in model.named_parameters()}
    parent.send(learnt)
    parent.close()

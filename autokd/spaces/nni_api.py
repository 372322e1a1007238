"""The names of NNI that autokd uses, imported without its noise.

NNI 3.0 warns on import under every recent torch ("... is not a nn.Module", a RuntimeWarning of
its lazily patched layers); nothing that we use is concerned. With a default framework it also
imports PyTorch Lightning and torchmetrics for its evaluators, which nobody asks here: 1.2 s of
every start. `nni.nas.nn.pytorch` and `nni.nas.hub.pytorch` are there without one.
"""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import nni

    nni.set_default_framework("none")
    from nni.mutable import (
        Categorical,
        CategoricalMultiple,
        LabeledMutable,
        Mutable,
        MutableDict,
        Numerical,
        SampleValidationError,
    )
    from nni.mutable.mutable import MISSING
    from nni.nas.nn.pytorch import ModelSpace

__all__ = [
    "MISSING",
    "Categorical",
    "CategoricalMultiple",
    "LabeledMutable",
    "ModelSpace",
    "Mutable",
    "MutableDict",
    "Numerical",
    "SampleValidationError",
]

"""The weights of a network as safetensors, of whatever it is made."""

from safetensors.torch import save
from torch import nn

__all__ = ["dump_weights"]


def dump_weights(network: nn.Module) -> bytes:
    """The content of a `.safetensors` file with all that the network has learnt.

    Args:
        network: Modules of it may be used in several places; what they share is written at each
            of its names, so that loading needs no rule for it.

    Returns:
        What `safetensors.torch.load` reads, under the names of the state dict.
    """
    state = network.state_dict()
    return save({name: value.detach().clone().contiguous() for name, value in state.items()})

"""Where the sites of a federation meet: one folder, in which each lays what it says of pictures.

    charter (what all sites agree on before anything is trained)
      → answers (log-probabilities of the public pictures, a file for each site and round)
      → consensus (what all of them say together)

Neither pictures nor labels nor weights go through here. No torch: all of it is arrays and files.
"""

from autokd.federation.answers import Answers
from autokd.federation.charter import Charter
from autokd.federation.consensus import build_consensus
from autokd.federation.meeting import Meeting
from autokd.federation.patience import Patience

__all__ = ["Answers", "Charter", "Meeting", "Patience", "build_consensus"]

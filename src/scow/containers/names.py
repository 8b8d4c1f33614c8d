"""Names of containers: their grammar, and one made up for those who give none."""

import random
import re
from collections.abc import Callable

from scow.errors import InvalidArgument

GRAMMAR = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
#: A bound that keeps names usable as file names and host names in lists (Docker has none).
MAX_NAME = 255

_ADJECTIVES = """
amber airy brave breezy bright brisk calm candid cheerful clever coastal copper cosy crisp curious daring deft
dusky eager early earnest easy fair faithful fleet fluent fond frank fresh gallant gentle glad golden graceful
green hardy hearty honest humble idle jolly keen kind lasting lively loyal lucid lucky mellow merry mild modest
neat nimble noble patient placid plucky proud quick quiet ready robust rosy rustic salty sandy serene sharp
silent silver simple sleek smooth snug sober solid spry stately steady stout sturdy sunny supple swift tame tidy
tranquil true upright vivid warm wary watchful willing windy wise witty worthy young zesty
"""
_NOUNS = """
albatross anchor barge beacon bollard boom bosun bow brig buoy cabin canal capstan cargo caravel clipper cleat
coracle cormorant crane current cutter davit deck delta dinghy dock dory drifter dune estuary ferry fjord
flotilla frigate galleon galley gannet gull halyard harbour haven hawser helm herring hull islet jetty jib junk
keel ketch knot lagoon lantern lighter lighthouse lugger mackerel mainsail mast mooring narrows oar osprey
packet petrel pilot pinnace port porpoise puffin punt quay raft reef rigging rower rudder sail sampan schooner
sextant shallop shoal shore skiff sloop smack spinnaker squall starboard stern tern tide tiller topsail trawler
trireme tug wake wharf wherry winch yawl
"""
ADJECTIVES = _ADJECTIVES.split()
NOUNS = _NOUNS.split()


def check(name: str) -> str:
    """`name` without its leading slash.

    Raises:
        InvalidArgument: in Docker's words, not of the grammar.
    """
    if not GRAMMAR.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidArgument(f"Invalid container name ({name[:MAX_NAME]}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name.removeprefix("/")


def invent(taken: Callable[[str], bool], choose: Callable[[list[str]], str] = random.choice) -> str:
    """A name like ``brisk_ferry`` that is not `taken`, with a number after some tries."""
    attempt = 0
    while True:
        name = f"{choose(ADJECTIVES)}_{choose(NOUNS)}"
        if attempt >= 5:
            name += str(attempt)
        if not taken(name):
            return name
        attempt += 1

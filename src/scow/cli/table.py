"""Every command: its names, the module that has it, and the line shown in lists. Data only, imported on every start.

The first name is the one in a group; the module is ``scow.cli.commands.<module>`` and has the command in its
``COMMANDS``, under that first name.
"""


class Entry:
    __slots__ = ("module", "names", "text")

    def __init__(self, names: str, module: str, text: str) -> None:
        self.names = names.split(", ")
        self.module = module
        self.text = text


GROUPS = {
    "builder": "Manage builds",
    "container": "Manage containers",
    "image": "Manage images",
    "network": "Manage networks",
    "registry": "Run a registry",
    "system": "Manage Scow",
    "volume": "Manage volumes",
}

#: Order of the first section of the help.
COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info")

_TABLE = """
container attach, attach | attach | Attach local standard input, output, and error streams to a running container
container commit, commit | commit | Create a new image from a container's changes
container cp, cp | cp | Copy files/folders between a container and the local filesystem
container create, create | create | Create a new container
container diff, diff | diff | Inspect changes to files or directories on a container's filesystem
container exec, exec | exec | Execute a command in a running container
container export, export | export | Export a container's filesystem as a tar archive
container inspect | inspect | Display detailed information on one or more containers
container kill, kill | lifecycle | Kill one or more running containers
container logs, logs | logs | Fetch the logs of a container
container ls, container list, container ps, ps | ps | List containers
container pause, pause | lifecycle | Pause all processes within one or more containers
container port, port | port | List port mappings or a specific mapping for the container
container prune | prune | Remove all stopped containers
container rename, rename | lifecycle | Rename a container
container restart, restart | lifecycle | Restart one or more containers
container rm, container remove, rm | lifecycle | Remove one or more containers
container run, run | run | Create and run a new container from an image
container start, start | start | Start one or more stopped containers
container stats, stats | stats | Display a live stream of container(s) resource usage statistics
container stop, stop | lifecycle | Stop one or more running containers
container top, top | top | Display the running processes of a container
container unpause, unpause | lifecycle | Unpause all processes within one or more containers
container update, update | update | Update configuration of one or more containers
container wait, wait | lifecycle | Block until one or more containers stop, then print their exit codes
image bootstrap | bootstrap | Make a base image from this host's tools or package mirror
image build, build, builder build | build | Build an image from a Dockerfile
image from-host | bootstrap | Make an image of programs of this host and the libraries they need
image history, history | history | Show the history of an image
image import, import | archive | Import the contents from a tarball to create a filesystem image
image inspect | inspect | Display detailed information on one or more images
image load, load | archive | Load an image from a tar archive or STDIN
image ls, image list, images | images | List images
image prune | prune | Remove unused images
image pull, pull | pull | Download an image from a registry
image push, push | pull | Upload an image to a registry
image rm, image remove, rmi | rmi | Remove one or more images
image save, save | archive | Save one or more images to a tar archive (streamed to STDOUT by default)
image tag, tag | rmi | Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
builder prune | prune | Remove build cache
inspect | inspect | Return low-level information on Scow objects
login | login | Authenticate to a registry
logout | login | Log out from a registry
network connect | network | Connect a container to a network
network create | network | Create a network
network disconnect | network | Disconnect a container from a network
network inspect | inspect | Display detailed information on one or more networks
network ls, network list | network | List networks
network prune | network | Remove all unused networks
network rm, network remove | network | Remove one or more networks
registry serve | registry | Run a registry that stores images in a directory
search | search | Search Docker Hub for images
system df | df | Show scow disk usage
system dial-stdio | dial | Proxy the stdio stream to the daemon connection. Should not be invoked manually.
system events, events | events | Get real time events from the server
system info, info | info | Display system-wide information
system prune | prune | Remove unused data
version | version | Show the Scow version information
volume create | volume | Create a volume
volume inspect | inspect | Display detailed information on one or more volumes
volume ls, volume list | volume | List volumes
volume prune | volume | Remove unused local volumes
volume rm, volume remove | volume | Remove one or more volumes
"""

ENTRIES = [Entry(*line.split(" | ")) for line in _TABLE.strip().split("\n")]

#: Every name, with spaces, → its entry.
BY_NAME = {name: entry for entry in ENTRIES for name in entry.names}

#: Lists leave these out, as Docker's do.
HIDDEN = frozenset({"system dial-stdio"})


def members(group: str) -> dict[str, str]:
    """Name → text of the commands of `group` ("" for the top level), in order; second names are left out."""
    found: dict[str, str] = {}
    for entry in ENTRIES:
        for name in entry.names:
            head, _, last = name.rpartition(" ")
            if head == group and name not in HIDDEN:
                found[last] = entry.text
                break
    return dict(sorted(found.items()))


def shown_name(entry: Entry, name: str) -> str:
    """The name of `entry` to show when it was invoked as `name`: the first one of the same group."""
    group = name.rpartition(" ")[0]
    return next(other for other in entry.names if other.rpartition(" ")[0] == group)

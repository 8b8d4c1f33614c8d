"""Media types of the documents and layers an image is made of (image-spec 1.1 media-types.md; Docker's schema 2)."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_PLAIN = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

_OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"

_LAYERS: dict[str, str] = {
    OCI_LAYER: "",
    OCI_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    DOCKER_LAYER: "gzip",
    DOCKER_LAYER_PLAIN: "",
    DOCKER_LAYER_ZSTD: "zstd",
    DOCKER_LAYER_FOREIGN: "gzip",
    _OCI_FOREIGN: "",
    _OCI_FOREIGN + "+gzip": "gzip",
    _OCI_FOREIGN + "+zstd": "zstd",
}

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)


def is_manifest(media_type: str) -> bool:
    """Whether it is a manifest of one image."""
    return media_type in MANIFESTS


def is_index(media_type: str) -> bool:
    """Whether it is a list of manifests, one a platform."""
    return media_type in INDEXES


def is_layer(media_type: str) -> bool:
    """Whether it is a filesystem layer this engine can unpack."""
    return media_type in _LAYERS


def is_foreign(media_type: str) -> bool:
    """Whether it is a layer that is fetched from its own URLs and never pushed."""
    return media_type == DOCKER_LAYER_FOREIGN or media_type.startswith(_OCI_FOREIGN)


def compression_of(media_type: str) -> str:
    """How a layer of this type is packed: ``""`` (plain tar), ``"gzip"`` or ``"zstd"``; ``""`` for types that are no
    layers.
    """
    return _LAYERS.get(media_type, "")

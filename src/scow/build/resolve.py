"""Base images: the local one if there is one for the platform, else pulled."""

from scow.build.options import BuildOptions
from scow.build.progress import Progress
from scow.errors import (
    EngineError,
    Forbidden,
    InvalidArgument,
    NoSuchImage,
    NotFound,
    System,
    Unauthorized,
    Unavailable,
)
from scow.images.image import Image
from scow.images.pull import pull
from scow.images.store import Images
from scow.oci.platform import Platform
from scow.oci.reference import DEFAULT_DOMAIN, Reference
from scow.registry.auth import NOBODY, AuthConfig
from scow.registry.client.registry import Registry

#: What ``X-Registry-Config`` calls the default registry.
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", DEFAULT_DOMAIN)


#: What an error of the registry stays when the image's name is added to its text.
_KINDS = (NotFound, Unauthorized, Forbidden, InvalidArgument, Unavailable)


class Resolver:
    """Finds and fetches the images builds begin from."""

    def __init__(self, images: Images, registry: Registry | None) -> None:
        self._images = images
        self._registry = registry

    async def resolve(self, reference: str, platform: str, options: BuildOptions, progress: Progress) -> Image:
        """The image a FROM, ``--from`` or mount names.

        Raises:
            NoSuchImage: not here, and there is no registry to ask.
            InvalidArgument: a malformed reference.
            NotFound, Unauthorized, Unavailable: the registry's answer.
        """
        wanted = Platform.parse(platform) if platform else None
        local = self._local(reference, wanted)
        if local is not None and not (options.pull and self._pullable(reference)):
            return local
        if self._registry is None:
            if local is not None:
                return local
            raise NoSuchImage(reference)
        named = Reference.parse(reference)
        try:
            return await pull(self._images, self._registry, named, wanted, auth_for(named, options), progress)
        except EngineError as error:
            kind = next((kind for kind in _KINDS if isinstance(error, kind)), System)
            raise kind(f"failed to resolve source metadata for {named}: {error}") from error

    def _local(self, reference: str, platform: Platform | None) -> Image | None:
        try:
            image = self._images.resolve(reference)
        except NoSuchImage:
            return None
        if platform is not None and not platform.matches(image.config.platform):
            return None
        return image

    def _pullable(self, reference: str) -> bool:
        """Whether the text is a name; an image's id cannot be pulled."""
        try:
            image = self._images.resolve(reference)
        except NoSuchImage:
            return True
        bare = reference.removeprefix("sha256:")
        return not str(image.id).removeprefix("sha256:").startswith(bare)


def auth_for(reference: Reference, options: BuildOptions) -> AuthConfig:
    """The credentials the client sent for an image's registry."""
    keys = _HUB_KEYS if reference.domain == DEFAULT_DOMAIN else (reference.domain, f"https://{reference.domain}")
    return next((options.auths[key] for key in keys if key in options.auths), NOBODY)

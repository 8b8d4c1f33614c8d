"""What a command is given: the console, the settings, and a client made when first used."""

import os

from scow.cli.console import Console, columns
from scow.cli.flags import Options
from scow.client.client import Client, check_version
from scow.client.credentials import ConfigFile
from scow.client.endpoint import Endpoint, choose, config_dir, variable
from scow.errors import Unsupported


class Session:
    """One invocation of ``scow``."""

    def __init__(self) -> None:
        self.console = Console()
        self.name = ""  # the command as invoked, for hints
        self.debug = False
        self._folder = ""
        self._endpoint: Endpoint | None = None
        self._client: Client | None = None
        self._others: list[Client] = []
        self._config: ConfigFile | None = None

    def configure(self, options: Options) -> None:
        """Take the global flags.

        Raises:
            InvalidArgument, Unsupported: a host or a context that does not exist.
        """
        self.debug = options.on("debug")
        self._folder = config_dir(os.environ, options.text("config"))
        hosts = options.items("host")
        context = options.text("context") or ("" if hosts else variable(os.environ, "CONTEXT"))
        if context not in ("", "default"):
            raise Unsupported(f'context "{context}": context not found: name the daemon with --host or SCOW_HOST')
        self._endpoint = choose(
            os.environ,
            host=hosts[-1] if hosts else "",
            config=self._folder,
            tls=options.on("tls"),
            verify=options.on("tlsverify") if options.given("tlsverify") else None,
            files={"ca": options.text("tlscacert"), "cert": options.text("tlscert"), "key": options.text("tlskey")},
        )

    @property
    def width(self) -> int:
        """Columns of the terminal, 80 where there is none."""
        return columns()

    @property
    def endpoint(self) -> Endpoint:
        if self._endpoint is None:
            self._endpoint = choose(os.environ, config=self._folder)
        return self._endpoint

    @property
    def config(self) -> ConfigFile:
        """``config.json``, read when first asked for."""
        if self._config is None:
            self._config = ConfigFile(self._folder or config_dir(os.environ))
        return self._config

    @property
    def client(self) -> Client:
        """The daemon; starting it on demand is the last resort, and only where nobody named a host."""
        if self._client is None:
            version = variable(os.environ, "API_VERSION")
            self._client = Client(
                self.endpoint,
                headers={str(k): str(v) for k, v in self.config.table("HttpHeaders").items()},
                version=check_version(version) if version else "",
                on_absent=None if self.endpoint.given else self._start,
            )
        return self._client

    def greet(self) -> None:
        """Say hello to the daemon, if it listens on a UNIX socket; its answer is read when the client is used."""
        if self.endpoint.path and not variable(os.environ, "API_VERSION"):
            self.client.greet()

    def fresh_client(self) -> Client:
        """Another client of the same daemon, for calls beside a stream (resize, kill)."""
        self._others.append(Client(self.endpoint, version=self.client.version))
        return self._others[-1]

    def close(self) -> None:
        """Give up the connections that are kept."""
        for client in (self._client, *self._others):
            if client is not None:
                client.close()

    def _start(self) -> bool:
        from scow.cli.autostart import start

        return start(self.console)

"""A certificate authority of the tests' own, and the files daemons and clients want from it."""

from pathlib import Path

import trustme


class Certificates:
    """ca.pem, server-cert.pem, server-key.pem, cert.pem and key.pem in `folder`, as Docker's clients name them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        for stem, identity in (("server-", names), ("", ("client@example.org",))):
            issued = authority.issue_cert(*identity)
            issued.private_key_pem.write_to_path(str(folder / f"{stem}key.pem"))
            chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
            (folder / f"{stem}cert.pem").write_bytes(chain)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def daemon(self) -> tuple[str, ...]:
        """scowd's options for mutual TLS."""
        server = self.folder / "server-cert.pem", self.folder / "server-key.pem"
        return ("--tlsverify", "--tlscacert", str(self.ca), "--tlscert", str(server[0]), "--tlskey", str(server[1]))

    def client(self) -> tuple[str, ...]:
        """The clients' options (scow and docker alike)."""
        mine = self.folder / "cert.pem", self.folder / "key.pem"
        return ("--tlsverify", "--tlscacert", str(self.ca), "--tlscert", str(mine[0]), "--tlskey", str(mine[1]))

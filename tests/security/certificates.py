"""Certificates for the daemons of these tests, by the program openssl."""

import ssl
import subprocess


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates, and has one for the nodes."""

    def __init__(self, folder, names="IP:127.0.0.1,DNS:localhost"):
        folder.mkdir()
        self.folder = folder
        self.certificate = folder / "ca.crt"
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl(
            *("req", "-x509", *key, "-days", "2", "-subj", "/CN=authority"),
            *("-keyout", folder / "ca.key", "-out", self.certificate),
        )
        openssl(
            *("req", *key, "-subj", "/CN=node"),
            *("-keyout", folder / "node.key", "-out", folder / "node.csr"),
        )
        (folder / "names").write_text(f"subjectAltName={names}")
        openssl(
            *("x509", "-req", "-in", folder / "node.csr", "-days", "2", "-CAcreateserial"),
            *("-CA", self.certificate, "-CAkey", folder / "ca.key"),
            *("-extfile", folder / "names", "-out", folder / "node.crt"),
        )

    def client(self, own):
        """For a TLS client that trusts this authority; ``own``: whose certificate it shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.certificate)
        if own is not None:
            context.load_cert_chain(own.folder / "node.crt", own.folder / "node.key")
        return context

    def flags(self):
        """Of the daemons."""
        return (
            f"--tls_cert_file={self.folder}/node.crt",
            f"--tls_key_file={self.folder}/node.key",
            f"--tls_ca_file={self.certificate}",
        )

    def options(self):
        """Of ``ray start``."""
        return (
            f"--tls-cert-file={self.folder}/node.crt",
            f"--tls-key-file={self.folder}/node.key",
            f"--tls-ca-file={self.certificate}",
        )

    def environment(self):
        return {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": f"{self.folder}/node.crt",
            "RAY_TLS_SERVER_KEY": f"{self.folder}/node.key",
            "RAY_TLS_CA_CERT": str(self.certificate),
        }

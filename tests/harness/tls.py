"""A certificate of one's own, for tests of TLS."""
import contextlib
import ssl
import subprocess

import pytest


def contexts(directory, *addresses):
    """The contexts of a server for `addresses` and of a client that trusts it."""
    names = ",".join(f"IP:{address}" for address in addresses)
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=iip", "-addext", f"subjectAltName={names}", "-keyout", key, "-out", certificate],
            check=True, capture_output=True)
    if not certificate.exists():
        pytest.skip("needs openssl")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)

"""`eat-hf app`, and commands that need an extra."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from eat_hf.cli.extras import needs
from eat_hf.errors import UserError


def start(*arguments):
    command = [sys.executable, "-m", "eat_hf.cli", "app", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_page_is_served_until_it_is_interrupted(tiny_model):
    pytest.importorskip("gradio", reason="the page needs the extra eat_hf[app]")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("--model", tiny_model, "--port", port)
        said = process.communicate(timeout=120)[1]
        assert process.returncode == 2 and re.fullmatch("eat-hf: The page cannot be served .*\n", said), said
    process = start("--model", tiny_model, "--port", port)
    try:
        address = next(found.group() for line in process.stdout if (found := re.search(r"http://\S+", line)))
        assert address.endswith(f":{port}")
        assert b"gradio" in urllib.request.urlopen(address, timeout=30).read()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 130 and said == "interrupted\n"
    finally:
        process.kill()


def test_a_package_that_is_missing_is_named_with_its_extra():
    with pytest.raises(UserError, match=r"needs the package gradio_of_mine; install it: pip install 'eat_hf\[app\]'"):
        with needs("app"):
            import gradio_of_mine  # noqa: F401
    with pytest.raises(ModuleNotFoundError), needs("app"):
        import eat_hf.no_such_room  # noqa: F401

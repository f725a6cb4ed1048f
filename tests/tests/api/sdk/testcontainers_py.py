"""What Python's `testcontainers` does in the hands of its users, with its reaper and without."""

import os
import urllib.request

from testcontainers.core.container import DockerContainer, Reaper
from testcontainers.core.network import Network
from testcontainers.core.image import DockerImage
from testcontainers.core.waiting_utils import wait_for_logs

PAGE = "mkdir /w; echo page >/w/index.html; echo begun; exec httpd -f -p 80 -h /w"

with Network() as network:
    web = DockerContainer("busybox").with_command(["sh", "-c", PAGE]).with_exposed_ports(80)
    web = web.with_network(network).with_network_aliases("front").with_env("A", "1")
    with web:
        wait_for_logs(web, "begun", timeout=120)
        place = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(80)}/"
        assert urllib.request.urlopen(place, timeout=60).read() == b"page\n"
        code, said = web.exec(["cat", "/w/index.html"])
        assert (code, said) == (0, b"page\n")
        assert web.get_wrapped_container().labels["org.testcontainers"] == "true"
        ask = DockerContainer("busybox").with_command("wget -q -O - http://front/").with_network(network)
        with ask:
            wait_for_logs(ask, "page", timeout=120)
        out, err = web.get_logs()
        assert out == b"begun\n", (out, err)
print("service")

os.mkdir("context")
with open("context/Dockerfile", "w") as file:
    file.write("FROM busybox\nRUN echo built >/f\nCMD [\"cat\", \"/f\"]\n")
with DockerImage(path="context", tag="mine/built:1") as image:
    with DockerContainer(str(image)) as built:
        wait_for_logs(built, "built", timeout=120)
print("builds")

if os.environ.get("TESTCONTAINERS_RYUK_DISABLED") != "true":
    reaper = Reaper._container.get_wrapped_container()
    assert reaper.name.startswith("testcontainers-ryuk-"), reaper.name
    Reaper.delete_instance()
    print("reaper")

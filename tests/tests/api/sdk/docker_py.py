"""What Python's `docker` does in the hands of its users; every line is a demand."""

import io
import tarfile
import threading

import docker

client = docker.from_env(timeout=120)
NO_NET = {"network_mode": "none"}


def archive(**files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    packed.seek(0)
    return packed


def unpacked(chunks):
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        return {m.name: tar.extractfile(m).read().decode() for m in tar.getmembers() if m.isfile()}


def system():
    assert client.ping()
    assert client.version()["ApiVersion"] == client.api._version
    assert client.info()["OSType"] == "linux"
    assert "LayersSize" in client.df()
    # Every version that is still spoken.
    for version in ("1.24", "1.30", "1.41", "1.44", "1.50"):
        assert docker.from_env(version=version).containers.list(all=True) == []


def images():
    image = client.images.pull("busybox", tag="latest")
    assert "busybox:latest" in image.tags, image.tags
    assert image.tag("mine/box", tag="1")
    assert client.images.list("mine/box")[0].id == image.id
    saved = b"".join(image.save(named=True))
    client.images.remove("mine/box:1")
    assert [i.id for i in client.images.load(saved)] == [image.id]
    assert image.history()[-1]["Size"] > 0
    assert client.images.get_registry_data("busybox").id.startswith("sha256:")
    lines = list(client.api.pull("busybox", tag="latest", stream=True, decode=True))
    assert any("up to date" in line.get("status", "") for line in lines), lines
    try:
        client.images.get("no/such")
    except docker.errors.ImageNotFound as error:
        assert error.response.status_code == 404
    else:
        raise AssertionError("an image that is not there was found")


def runs():
    assert client.containers.run("busybox", "echo out", remove=True, **NO_NET) == b"out\n"
    both = client.containers.run("busybox", ["sh", "-c", "echo a; echo b >&2"], stdout=True,
                                 stderr=True, remove=True, **NO_NET)
    assert sorted(both.split()) == [b"a", b"b"], both
    try:
        client.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 3"], remove=True, **NO_NET)
    except docker.errors.ContainerError as error:
        assert (error.exit_status, error.stderr) == (3, b"why\n"), error
    else:
        raise AssertionError("a failure went unseen")
    try:
        client.containers.run("busybox", "no-such-program", remove=True, **NO_NET)
    except docker.errors.APIError as error:
        assert "executable file not found" in str(error), error
        assert len(client.containers.prune()["ContainersDeleted"]) == 1
    else:
        raise AssertionError("what is not there was run")
    assert client.containers.list(all=True) == []


def service():
    network = client.networks.create("net", driver="bridge", labels={"of": "test"})
    volume = client.volumes.create("data", labels={"of": "test"})
    web = client.containers.run(
        "busybox", ["sh", "-c", "echo ready; mkdir -p /w; echo page >/w/index.html; exec httpd -f -p 80 -h /w"],
        name="web", detach=True, network="net", volumes={"data": {"bind": "/data", "mode": "rw"}},
        ports={"80/tcp": ("127.0.0.1", None)}, environment={"A": "1"}, labels={"of": "test"},
        mem_limit="64m", restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
        healthcheck={"test": ["CMD", "true"], "interval": 1_000_000_000},
        ulimits=[docker.types.Ulimit(name="nofile", soft=512, hard=1024)],
        log_config=docker.types.LogConfig(type="json-file", config={"max-size": "1m"}),
        mounts=[docker.types.Mount("/scratch", None, type="tmpfs", tmpfs_size=1 << 20)],
    )
    assert next(web.logs(stream=True, follow=True)) == b"ready\n"
    web.reload()
    assert web.status == "running" and web.attrs["HostConfig"]["Memory"] == 64 << 20
    assert web.ports["80/tcp"][0]["HostIp"] == "127.0.0.1"
    page = client.containers.run("busybox", "wget -q -O - http://web/", network="net", remove=True)
    assert page == b"page\n", page
    assert [c.name for c in client.containers.list(filters={"label": "of=test", "status": "running"})] == ["web"]
    code, said = web.exec_run("cat /w/index.html")
    assert (code, said) == (0, b"page\n")
    code, (out, err) = web.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"o\n", b"e\n")
    stream = web.exec_run("sh -c 'echo 1; echo 2'", stream=True).output
    assert b"".join(stream) == b"1\n2\n"
    talk = web.exec_run("cat", stdin=True, socket=True).output
    talk._sock.sendall(b"fed\n")
    assert talk.read(12) == b"\x01\0\0\0\0\0\0\x04fed\n"
    talk._sock.close()
    assert web.put_archive("/data", archive(a="one", b="two"))
    chunks, stat = web.get_archive("/data/a")
    assert stat["name"] == "a" and unpacked(chunks) == {"a": "one"}
    assert {"Path": "/w", "Kind": 1} in web.diff()
    assert web.top(ps_args="-o pid,args")["Titles"] == ["PID", "COMMAND"]
    stats = web.stats(stream=False)
    assert stats["memory_stats"]["usage"] > 0 and stats["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    stats = web.stats(stream=True, decode=True)
    assert [next(stats)["name"] for _ in range(2)] == ["/web", "/web"]
    web.pause(), web.unpause(), web.rename("front"), web.update(mem_limit="80m", memswap_limit="160m")
    made = web.commit("mine/web", tag="1", changes=["LABEL built=yes"])
    assert made.labels["built"] == "yes"
    assert b"w/index.html" in b"".join(web.export())
    other = client.containers.create("busybox", "sleep 1000", **{"network": "net"})
    network.reload()
    network.disconnect(web)
    network.connect(web, aliases=["again"])
    other.remove(force=True)
    web.restart(timeout=1)
    web.stop(timeout=1)
    assert web.wait()["StatusCode"] in (137, 143)
    web.remove(v=True)
    client.images.remove("mine/web:1")
    network.remove()
    volume.remove()
    assert client.networks.list(names=["net"]) == [] and client.volumes.list(filters={"name": "data"}) == []


def attached():
    box = client.containers.create("busybox", "cat", stdin_open=True, **NO_NET)
    socket = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    box.start()
    socket._sock.sendall(b"said\n")
    assert socket.read(13) == b"\x01\0\0\0\0\0\0\x05said\n"
    waited = threading.Thread(target=lambda: box.wait(condition="removed"))
    waited.start()
    box.kill()
    box.remove(force=True)
    waited.join(120)
    assert not waited.is_alive()
    terminal = client.containers.create("busybox", "sh -c 'stty size; echo done'", tty=True, **NO_NET)
    output = terminal.attach(stream=True, logs=True)
    terminal.start()
    assert b"done\r\n" in b"".join(output)
    terminal.remove(force=True)


def builds():
    context = archive(Dockerfile="FROM busybox\nARG WHO\nCOPY f /f\nRUN echo for $WHO\nLABEL a=b\nCMD cat /f\n", f="content\n")
    image, log = client.images.build(fileobj=context, custom_context=True, tag="built:1",
                                     buildargs={"WHO": "me"}, rm=True, labels={"c": "d"})
    log = "".join(line.get("stream", "") for line in log)
    assert "for me" in log and "Successfully tagged built:1" in log, log
    assert image.labels == {"a": "b", "c": "d"}, image.labels
    assert client.containers.run("built:1", remove=True, **NO_NET) == b"content\n"
    try:
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 3\n"))
    except docker.errors.BuildError as error:
        assert "returned a non-zero code: 3" in str(error), error
    else:
        raise AssertionError("a build that fails was not told")
    client.images.remove("built:1")
    client.images.prune(filters={"dangling": True})


def events():
    seen = client.events(since=0, filters={"type": "container"}, decode=True)
    client.containers.run("busybox", "true", name="seen", remove=True, **NO_NET)
    actions = []
    for event in seen:
        if event["Actor"]["Attributes"].get("name") == "seen":
            actions.append(event["Action"])
        if actions[-1:] == ["destroy"]:
            break
    seen.close()
    assert [a for a in actions if a in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"]


for part in (system, images, runs, service, attached, builds, events):
    part()
    print(part.__name__, flush=True)

"""What programs in Python do with a pod that runs, by the package `kubernetes`."""

from kubernetes import client, config, watch
from kubernetes.stream import stream

LONGEST = 120

config.load_kube_config(config_file="kubeconfig")
core = client.CoreV1Api()

own = watch.Watch()
for event in own.stream(core.list_namespaced_pod, "default", timeout_seconds=LONGEST):
    if event["object"].status.phase == "Running":
        own.stop()

said = stream(
    core.connect_get_namespaced_pod_exec,
    "web",
    "default",
    command=["sh", "-c", "echo out; echo err >&2"],
    stdout=True,
    stderr=True,
    stdin=False,
    tty=False,
)
assert set(said.split()) == {"out", "err"}, said

talk = stream(
    core.connect_get_namespaced_pod_exec,
    "web",
    "default",
    # It does not end with its answer: the library forgets lines that come together with the end.
    command=["sh", "-c", "read word; echo got $word; read word; exit 3"],
    stdout=True,
    stderr=True,
    stdin=True,
    tty=False,
    _preload_content=False,
)
talk.write_stdin("hello\n")
answer = talk.readline_stdout(timeout=LONGEST)
assert answer == "got hello", answer
talk.write_stdin("enough\n")
talk.run_forever(timeout=LONGEST)
assert talk.returncode == 3, talk.returncode

log = core.read_namespaced_pod_log("web", "default", tail_lines=1)
assert log.strip() == "up", log
for line in watch.Watch().stream(core.read_namespaced_pod_log, "web", "default"):
    assert line == "up", line
    break
print("python: pods")

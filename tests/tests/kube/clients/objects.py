"""What programs in Python do with objects, by the package `kubernetes`."""

import json
import threading

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.informer import SharedInformer
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

# How long anything may take, in seconds.
LONGEST = 120

config.load_kube_config(config_file="kubeconfig")
core, apps, custom = client.CoreV1Api(), client.AppsV1Api(), client.CustomObjectsApi()


def refused(call, status, reason):
    """A call fails with a status, which says why."""
    try:
        call()
    except ApiException as error:
        assert error.status == status, error
        assert json.loads(error.body)["reason"] == reason, error.body
        return
    raise AssertionError(f"it was not refused with {status}")


def a_map(name, **labels):
    metadata = client.V1ObjectMeta(name=name, labels=labels)
    return client.V1ConfigMap(metadata=metadata, data={"a": "1"})


def maps():
    for name in ("one", "two", "three"):
        core.create_namespaced_config_map("default", a_map(name, of="python"))
    found = core.list_namespaced_config_map("default", label_selector="of=python", limit=2)
    assert [m.metadata.name for m in found.items] == ["one", "three"], found
    token = found.metadata._continue
    rest = core.list_namespaced_config_map(
        "default", label_selector="of=python", limit=2, _continue=token
    )
    assert [m.metadata.name for m in rest.items] == ["two"], rest
    refused(lambda: core.create_namespaced_config_map("default", a_map("one")), 409, "AlreadyExists")
    refused(lambda: core.read_namespaced_config_map("none", "default"), 404, "NotFound")
    one = core.read_namespaced_config_map("one", "default")
    one.data["a"] = "2"
    core.replace_namespaced_config_map("one", "default", one)
    refused(lambda: core.replace_namespaced_config_map("one", "default", one), 409, "Conflict")
    dry = core.create_namespaced_config_map("default", a_map("dry"), dry_run="All")
    assert dry.metadata.uid
    refused(lambda: core.read_namespaced_config_map("dry", "default"), 404, "NotFound")


def watches():
    since = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", a_map("watched"))
    core.patch_namespaced_config_map("watched", "default", {"data": {"b": "2"}})
    core.delete_namespaced_config_map("watched", "default")
    seen, own = [], watch.Watch()
    for event in own.stream(
        core.list_namespaced_config_map,
        "default",
        field_selector="metadata.name=watched",
        resource_version=since,
        allow_watch_bookmarks=True,
        timeout_seconds=LONGEST,
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            own.stop()
    assert [kind for kind, _ in seen] == ["ADDED", "MODIFIED", "DELETED"], seen


def deployments():
    labels = {"app": "web"}
    body = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1DeploymentSpec(
            replicas=1,
            selector=client.V1LabelSelector(match_labels=labels),
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels=labels),
                spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="i:1")]),
            ),
        ),
    )
    made = apps.create_namespaced_deployment("default", body)
    assert made.spec.strategy.rolling_update.max_surge == "25%", made
    image = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}}
    patched = apps.patch_namespaced_deployment("web", "default", image)
    assert patched.spec.template.spec.containers[0].image == "i:2", patched
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
    patched = apps.patch_namespaced_deployment("web", "default", operations)
    assert patched.spec.replicas == 3, patched
    scale = apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 2}})
    assert scale.spec.replicas == 2 and scale.status.selector == "app=web", scale
    wrong = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": -1}}
    refused(lambda: apps.patch_namespaced_deployment("web", "default", wrong), 422, "Invalid")


def applied():
    def apply(manager, value, force=None):
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "applied"},
            "data": {"a": value},
        }
        return core.patch_namespaced_config_map(
            "applied",
            "default",
            body,
            field_manager=manager,
            force=force,
            _content_type="application/apply-patch+yaml",
        )

    assert apply("first", "1").data == {"a": "1"}
    refused(lambda: apply("second", "2"), 409, "Conflict")
    managers = {own.manager for own in apply("second", "2", True).metadata.managed_fields}
    assert managers == {"second"}, managers


def customs():
    group = "python.example.com"
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
    }
    utils.create_from_dict(client.ApiClient(), definition)
    thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "a"}, "n": 1}
    made = custom.create_namespaced_custom_object(group, "v1", "default", "things", thing)
    assert made["n"] == 1, made
    kinds = dynamic.DynamicClient(client.ApiClient())
    things = kinds.resources.get(api_version=f"{group}/v1", kind="Thing")
    patched = things.patch(
        name="a", namespace="default", body={"n": 2}, content_type="application/merge-patch+json"
    )
    assert patched.n == 2, patched
    applied = things.server_side_apply(
        body={**thing, "m": 3}, namespace="default", field_manager="python", force_conflicts=True
    )
    assert (applied.n, applied.m) == (1, 3), applied
    assert [thing.metadata.name for thing in things.get(namespace="default").items] == ["a"]


def informed():
    """An informer tells what has become of objects, and knows those there are."""
    told, changed = [], threading.Condition()

    def tell(kind):
        def handler(one):
            with changed:
                told.append((kind, one.metadata.name))
                changed.notify_all()

        return handler

    def wait_for(*wanted):
        with changed:
            there = changed.wait_for(lambda: all(one in told for one in wanted), LONGEST)
            assert there, (wanted, told)

    informer = SharedInformer(
        core.list_namespaced_config_map, namespace="default", label_selector="of=informer"
    )
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        informer.add_event_handler(kind, tell(kind))
    core.create_namespaced_config_map("default", a_map("before", of="informer"))
    informer.start()
    wait_for(("ADDED", "before"))
    core.create_namespaced_config_map("default", a_map("after", of="informer"))
    wait_for(("ADDED", "after"))
    core.patch_namespaced_config_map("after", "default", {"data": {"b": "2"}})
    wait_for(("MODIFIED", "after"))
    core.delete_namespaced_config_map("before", "default")
    wait_for(("DELETED", "before"))
    informer.stop()


def elected():
    """One of two candidates leads."""
    leading, leaders = threading.Event(), []

    def lead(name):
        def begin():
            leaders.append(name)
            leading.set()

        return begin

    for name in ("first", "second"):
        lock = LeaseLock("election", "default", name)
        own = electionconfig.Config(
            lock,
            lease_duration=17,
            renew_deadline=15,
            retry_period=5,
            onstarted_leading=lead(name),
            onstopped_leading=None,
        )
        threading.Thread(target=leaderelection.LeaderElection(own).run, daemon=True).start()
    assert leading.wait(LONGEST)
    lease = client.CoordinationV1Api().read_namespaced_lease("election", "default")
    assert [lease.spec.holder_identity] == leaders, (lease, leaders)


def reviewed():
    attributes = client.V1ResourceAttributes(verb="create", resource="pods", namespace="default")
    spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    review = client.AuthorizationV1Api().create_self_subject_access_review(
        client.V1SelfSubjectAccessReview(spec=spec)
    )
    assert review.status.allowed, review
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    token = core.create_namespaced_service_account_token("default", "default", request)
    assert token.status.token.count(".") == 2, token
    assert client.VersionApi().get_code().major == "1"
    groups = {group.name for group in client.ApisApi().get_api_versions().groups}
    assert {"apps", "batch", "rbac.authorization.k8s.io"} <= groups, groups


for part in (maps, watches, deployments, applied, customs, informed, elected, reviewed):
    part()
    print(f"python: {part.__name__}", flush=True)

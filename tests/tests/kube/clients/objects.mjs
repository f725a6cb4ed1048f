// What programs in JavaScript do with objects, by the package `@kubernetes/client-node`.

import assert from 'node:assert';
import * as k8s from '@kubernetes/client-node';

const kubeconfig = new k8s.KubeConfig();
kubeconfig.loadFromFile('kubeconfig');
const core = kubeconfig.makeApiClient(k8s.CoreV1Api);
const apps = kubeconfig.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(kubeconfig);
const namespace = 'default';

const map = (name, labels = {}) => ({ metadata: { name, labels }, data: { a: '1' } });

async function refused(call, code, reason) {
    const error = await call.then(() => assert.fail(`it was not refused with ${code}`), (e) => e);
    assert.strictEqual(error.code, code, error);
    const body = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
    assert.strictEqual(body.reason, reason);
}

async function maps() {
    for (const name of ['one', 'two', 'three']) {
        await core.createNamespacedConfigMap({ namespace, body: map(name, { of: 'node' }) });
    }
    const wanted = { namespace, labelSelector: 'of=node', limit: 2 };
    const page = await core.listNamespacedConfigMap(wanted);
    assert.deepStrictEqual(page.items.map((m) => m.metadata.name), ['one', 'three']);
    const rest = await core.listNamespacedConfigMap({ ...wanted, _continue: page.metadata._continue });
    assert.deepStrictEqual(rest.items.map((m) => m.metadata.name), ['two']);
    await refused(core.createNamespacedConfigMap({ namespace, body: map('one') }), 409, 'AlreadyExists');
    await refused(core.readNamespacedConfigMap({ namespace, name: 'none' }), 404, 'NotFound');
    const one = await core.readNamespacedConfigMap({ namespace, name: 'one' });
    one.data.a = '2';
    await core.replaceNamespacedConfigMap({ namespace, name: 'one', body: one });
    await refused(core.replaceNamespacedConfigMap({ namespace, name: 'one', body: one }), 409, 'Conflict');
}

async function deployments() {
    const labels = { app: 'web' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'i:1' }] } };
    const body = {
        apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', namespace },
        spec: { replicas: 1, selector: { matchLabels: labels }, template },
    };
    await apps.createNamespacedDeployment({ namespace, body });
    const strategic = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.StrategicMergePatch);
    const containers = [{ name: 'c', image: 'i:2' }];
    const patched = await apps.patchNamespacedDeployment(
        { namespace, name: 'web', body: { spec: { template: { spec: { containers } } } } }, strategic);
    assert.strictEqual(patched.spec.template.spec.containers[0].image, 'i:2');
    const operations = [{ op: 'replace', path: '/spec/replicas', value: 3 }];
    const replaced = await apps.patchNamespacedDeployment({ namespace, name: 'web', body: operations });
    assert.strictEqual(replaced.spec.replicas, 3);
    const scale = await apps.readNamespacedDeploymentScale({ namespace, name: 'web' });
    assert.strictEqual(scale.spec.replicas, 3);
    const apply = (manager, replicas, force) => objects.patch(
        { ...body, spec: { ...body.spec, replicas } }, undefined, undefined, manager, force,
        k8s.PatchStrategy.ServerSideApply);
    await refused(apply('other', 5), 409, 'Conflict');
    assert.strictEqual((await apply('other', 5, true)).spec.replicas, 5);
    const found = await objects.read({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', namespace } });
    assert.ok(found.metadata.creationTimestamp instanceof Date);
    const all = await objects.list('apps/v1', 'Deployment', namespace);
    assert.strictEqual(all.items.length, 1);
    await objects.delete(found, undefined, undefined, 0, undefined, 'Background');
}

async function watched() {
    const since = (await core.listNamespacedConfigMap({ namespace })).metadata.resourceVersion;
    const seen = [];
    const { promise, resolve, reject } = Promise.withResolvers?.() ?? deferred();
    const abort = await new k8s.Watch(kubeconfig).watch(
        `/api/v1/namespaces/${namespace}/configmaps`,
        { resourceVersion: since, allowWatchBookmarks: true, fieldSelector: 'metadata.name=watched' },
        (type) => {
            seen.push(type);
            if (type === 'DELETED') resolve();
        },
        (error) => error && error.name !== 'AbortError' && reject(error));
    await core.createNamespacedConfigMap({ namespace, body: map('watched') });
    const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
    await core.patchNamespacedConfigMap({ namespace, name: 'watched', body: { data: { b: '2' } } }, merge);
    await core.deleteNamespacedConfigMap({ namespace, name: 'watched' });
    await promise;
    abort.abort();
    assert.deepStrictEqual(seen, ['ADDED', 'MODIFIED', 'DELETED']);
}

function deferred() {
    const own = {};
    own.promise = new Promise((resolve, reject) => Object.assign(own, { resolve, reject }));
    return own;
}

async function informed() {
    const told = new Set();
    let wake = () => {};
    const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'of=informer' });
    const informer = k8s.makeInformer(
        kubeconfig, `/api/v1/namespaces/${namespace}/configmaps`, list, 'of=informer');
    for (const verb of ['add', 'update', 'delete']) {
        informer.on(verb, (object) => {
            told.add(`${verb} ${object.metadata.name}`);
            wake();
        });
    }
    const until = async (what) => {
        while (!told.has(what)) await new Promise((resolve) => { wake = resolve; });
    };
    await core.createNamespacedConfigMap({ namespace, body: map('before', { of: 'informer' }) });
    await informer.start();
    await until('add before');
    await core.createNamespacedConfigMap({ namespace, body: map('after', { of: 'informer' }) });
    await until('add after');
    const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
    await core.patchNamespacedConfigMap({ namespace, name: 'after', body: { data: { b: '2' } } }, merge);
    await until('update after');
    await core.deleteNamespacedConfigMap({ namespace, name: 'before' });
    await until('delete before');
    assert.deepStrictEqual(informer.list().map((m) => m.metadata.name), ['after']);
    await informer.stop();
}

for (const part of [maps, deployments, watched, informed]) {
    await part();
    console.log(`node: ${part.name}`);
}
process.exit(0);

// What programs in JavaScript do with a pod that runs, by the package `@kubernetes/client-node`.

import assert from 'node:assert';
import { PassThrough, Readable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const kubeconfig = new k8s.KubeConfig();
kubeconfig.loadFromFile('kubeconfig');
const core = kubeconfig.makeApiClient(k8s.CoreV1Api);
const [namespace, name] = ['default', 'web'];

function kept() {
    const stream = new PassThrough();
    stream.text = '';
    stream.on('data', (piece) => { stream.text += piece; });
    return stream;
}

const [out, err] = [kept(), kept()];
const status = await new Promise((resolve, reject) => {
    const command = ['sh', '-c', 'echo out; echo err >&2; exit 3'];
    new k8s.Exec(kubeconfig).exec(namespace, name, 'c', command, out, err, null, false, resolve).catch(reject);
});
assert.strictEqual(status.status, 'Failure');
assert.deepStrictEqual(status.details.causes[0], { reason: 'ExitCode', message: '3' });
assert.deepStrictEqual([out.text, err.text], ['out\n', 'err\n']);

const answer = kept();
await new Promise((resolve, reject) => {
    const command = ['sh', '-c', 'read word; echo got $word'];
    const input = Readable.from(['hello\n']);
    new k8s.Exec(kubeconfig).exec(namespace, name, 'c', command, answer, null, input, false, resolve).catch(reject);
});
assert.strictEqual(answer.text, 'got hello\n');

assert.strictEqual(await core.readNamespacedPodLog({ namespace, name, tailLines: 1 }), 'up\n');
const lines = kept();
const following = await new k8s.Log(kubeconfig).log(namespace, name, 'c', lines, { follow: true });
while (!lines.text) await new Promise((resolve) => lines.once('data', resolve));
assert.strictEqual(lines.text, 'up\n');
following.abort();
console.log('node: pods');
process.exit(0);

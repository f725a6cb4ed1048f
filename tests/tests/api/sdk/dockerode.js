// What npm's `dockerode` does in the hands of its users; every line is a demand.
const assert = require('node:assert/strict');
const { PassThrough } = require('node:stream');
const tar = require('tar-stream');
const Docker = require('dockerode');

const docker = new Docker();
const HostConfig = { NetworkMode: 'none' };

const text = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString();
};

const pack = (files) => {
  const packed = tar.pack();
  for (const [name, content] of Object.entries(files)) packed.entry({ name }, content);
  packed.finalize();
  return packed;
};

const followed = (stream) => new Promise((resolve, reject) =>
  docker.modem.followProgress(stream, (error, lines) => (error ? reject(error) : resolve(lines))));

const ended = (stream) => new Promise((resolve, reject) => stream.on('end', resolve).on('error', reject));

// Both streams of a process, apart.
const demuxed = async (stream) => {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  return Promise.all([text(out), text(err)]);
};

const parts = {
  async system() {
    assert.equal((await docker.ping()).toString(), 'OK');
    assert.equal((await docker.version()).Os, 'linux');
    assert.equal((await docker.info()).OSType, 'linux');
    assert.ok((await docker.df()).Images);
    const old = new Docker({ version: 'v1.24' });
    assert.deepEqual(await old.listContainers({ all: true }), []);
  },

  async images() {
    await followed(await docker.pull('busybox:latest'));
    const image = docker.getImage('busybox:latest');
    await image.tag({ repo: 'mine/box', tag: '1' });
    const saved = await text(await docker.getImage('mine/box:1').get());
    assert.ok(saved.includes('manifest.json'));
    await docker.getImage('mine/box:1').remove();
    assert.ok((await image.history()).length > 0);
    assert.ok((await image.distribution()).Descriptor.digest.startsWith('sha256:'));
    await assert.rejects(docker.getImage('no/such').inspect(), { statusCode: 404 });
    const failed = await docker.pull('no/such/image').then(followed).catch((error) => error);
    assert.ok(failed instanceof Error, 'a pull of what is not there fails');
  },

  async runs() {
    const out = new PassThrough();
    const said = text(out);
    const [{ StatusCode }, container] = await docker.run('busybox', ['sh', '-c', 'echo hi; exit 5'], out, { HostConfig });
    out.end();
    assert.deepEqual([StatusCode, await said], [5, 'hi\r\n']);
    await container.remove();
    const apart = [new PassThrough(), new PassThrough()];
    const both = apart.map(text);
    const [, second] = await docker.run('busybox', ['sh', '-c', 'echo o; echo e >&2'], apart, { Tty: false, HostConfig });
    apart.forEach((stream) => stream.end());
    assert.deepEqual(await Promise.all(both), ['o\n', 'e\n']);
    await second.remove();
  },

  async service() {
    const network = await docker.createNetwork({ Name: 'net', Labels: { of: 'test' } });
    const volume = await docker.createVolume({ Name: 'data' });
    const web = await docker.createContainer({
      Image: 'busybox', name: 'web', Env: ['A=1'], Labels: { of: 'test' }, ExposedPorts: { '80/tcp': {} },
      Cmd: ['sh', '-c', 'echo ready; mkdir /w; echo page >/w/index.html; exec httpd -f -h /w'],
      Healthcheck: { Test: ['CMD', 'true'], Interval: 1e9 },
      HostConfig: {
        NetworkMode: 'net', Binds: ['data:/data'], Memory: 64 << 20, RestartPolicy: { Name: 'on-failure' },
        PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '0' }] },
      },
      NetworkingConfig: { EndpointsConfig: { net: { Aliases: ['front'] } } },
    });
    await web.start();
    await assert.rejects(web.start(), { statusCode: 304 });
    const log = await web.logs({ follow: true, stdout: true, stderr: true });
    const [first] = await new Promise((resolve) => log.once('data', (data) => resolve([data])));
    assert.ok(first.toString().includes('ready\n'));
    log.destroy();
    assert.ok((await web.logs({ stdout: true })).toString().includes('ready\n'));
    const exec = await web.exec({ Cmd: ['sh', '-c', 'cat; echo e >&2; exit 4'], AttachStdin: true, AttachStdout: true, AttachStderr: true });
    const talk = await exec.start({ hijack: true, stdin: true });
    const said = demuxed(talk);
    talk.end('fed\n');
    assert.deepEqual(await said, ['fed\n', 'e\n']);
    assert.equal((await exec.inspect()).ExitCode, 4);
    await web.putArchive(pack({ a: 'one' }), { path: '/data' });
    assert.ok((await text(await web.getArchive({ path: '/data/a' }))).includes('one'));
    assert.ok((await web.infoArchive({ path: '/data/a' })) !== undefined);
    const once = await web.stats({ stream: false });
    assert.ok(once.memory_stats.usage > 0);
    const stats = await web.stats({ stream: true });
    const looked = await new Promise((resolve) => stats.once('data', resolve));
    assert.equal(JSON.parse(looked.toString()).name, '/web');
    stats.destroy();
    assert.deepEqual((await web.top({ ps_args: '-o pid' })).Titles, ['PID']);
    await web.pause();
    await web.unpause();
    await web.update({ Memory: 80 << 20, MemorySwap: 160 << 20 });
    await web.rename({ name: 'renamed' });
    const { Id } = await web.commit({ repo: 'mine/web', tag: '1', comment: 'said' });
    assert.equal((await docker.getImage('mine/web:1').inspect()).Id, Id);
    assert.ok((await text(await web.export())).includes('w/index.html'));
    await network.disconnect({ Container: web.id });
    await network.connect({ Container: web.id });
    const over = web.wait();
    await web.stop({ t: 1 });
    assert.ok([137, 143].includes((await over).StatusCode));
    await web.remove({ v: true });
    await docker.getImage('mine/web:1').remove();
    await network.remove();
    await volume.remove();
  },

  async attached() {
    const box = await docker.createContainer({ Image: 'busybox', Cmd: ['cat'], OpenStdin: true, StdinOnce: true, HostConfig });
    const stream = await box.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
    const said = demuxed(stream);
    await box.start();
    stream.end('through\n');
    assert.deepEqual(await said, ['through\n', '']);
    assert.equal((await box.wait()).StatusCode, 0);
    await box.remove();
    const terminal = await docker.createContainer({ Image: 'busybox', Cmd: ['sh', '-c', 'read x; stty size'], Tty: true, OpenStdin: true, HostConfig });
    const screen = await terminal.attach({ stream: true, stdin: true, stdout: true, hijack: true });
    const shown = text(screen);
    await terminal.start();
    await terminal.resize({ h: 33, w: 99 });
    screen.write('\n');
    assert.match(await shown, /33 99/);
    await terminal.remove();
  },

  async builds() {
    const files = { Dockerfile: 'FROM busybox\nARG WHO\nCOPY f /f\nRUN echo for $WHO\nCMD cat /f\n', f: 'content\n' };
    const lines = await followed(await docker.buildImage(pack(files), { t: 'built:1', buildargs: { WHO: 'me' } }));
    const log = lines.map((line) => line.stream ?? '').join('');
    assert.ok(log.includes('for me') && log.includes('Successfully tagged built:1'), log);
    assert.ok(lines.some((line) => line.aux?.ID?.startsWith('sha256:')), 'the image is told');
    await docker.getImage('built:1').remove();
    const broken = await docker.buildImage(pack({ Dockerfile: 'FROM busybox\nRUN exit 3\n' }));
    const told = (await followed(broken)).find((line) => line.error);
    assert.match(told.error, /returned a non-zero code: 3/);
    assert.equal(told.errorDetail.code, 3);
  },

  async events() {
    const stream = await docker.getEvents({ since: 0, filters: { type: ['container'], event: ['destroy'] } });
    const seen = new Promise((resolve) => stream.on('data', (data) => data.toString().includes('"seen"') && resolve()));
    const box = await docker.createContainer({ Image: 'busybox', name: 'seen', HostConfig });
    await box.remove();
    await seen;
    stream.destroy();
  },
};

(async () => {
  for (const [name, part] of Object.entries(parts)) {
    await part();
    console.log(name);
  }
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});

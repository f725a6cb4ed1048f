// What npm's `testcontainers` does in the hands of its users, with its reaper and without.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const { GenericContainer, Network, Wait } = require('testcontainers');

const PAGE = 'mkdir /w; echo page >/w/index.html; echo begun; exec httpd -f -p 80 -h /w';

const text = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString();
};

const parts = {
  async service() {
    const network = await new Network().start();
    const web = await new GenericContainer('busybox')
      .withCommand(['sh', '-c', PAGE])
      .withExposedPorts(80)
      .withNetwork(network)
      .withNetworkAliases('front')
      .withCopyContentToContainer([{ content: 'copied', target: '/data/f' }])
      .withHealthCheck({ test: ['CMD', 'true'], interval: 1000 })
      .withWaitStrategy(Wait.forAll([Wait.forListeningPorts(), Wait.forLogMessage('begun'), Wait.forHealthCheck()]))
      .withStartupTimeout(120000)
      .start();
    const answer = await fetch(`http://${web.getHost()}:${web.getMappedPort(80)}/`);
    assert.equal(await answer.text(), 'page\n');
    const { exitCode, output } = await web.exec(['cat', '/data/f']);
    assert.deepEqual([exitCode, output], [0, 'copied']);
    assert.ok((await text(await web.copyArchiveFromContainer('/data/f'))).includes('copied'));
    const asks = await new GenericContainer('busybox')
      .withCommand(['wget', '-q', '-O', '-', 'http://front/'])
      .withNetwork(network)
      .withWaitStrategy(Wait.forOneShotStartup())
      .start();
    assert.ok((await text(await asks.logs())).includes('page'));
    await asks.stop();
    await web.restart();
    await web.stop();
    await network.stop();
  },

  async builds() {
    fs.mkdirSync('context-of-node');
    fs.writeFileSync('context-of-node/Dockerfile', 'FROM busybox\nRUN echo built >/f\nCMD ["cat", "/f"]\n');
    const image = await GenericContainer.fromDockerfile('context-of-node').build('mine/built:2');
    const built = await image.withWaitStrategy(Wait.forLogMessage('built')).start();
    await built.stop();
  },
};

// Its streams of logs do not keep a process alive that waits for their end.
setInterval(() => {}, 1000);

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

//! What a container asks that no other container is called: passed on to servers of every kind.

use testkit::Sandbox;

/// A name server of one zone, which loses the first datagram about a name with `lossy` in it, and
/// has no room in a datagram for what `big` has.
const SERVER: &str = r#"
import socket, socketserver, struct, threading
ANSWERS = {
    ("www.example.test", 1): bytes([192, 0, 2, 1]),
    ("big.example.test", 1): bytes([192, 0, 2, 2]),
    ("lossy.example.test", 1): bytes([192, 0, 2, 3]),
    ("host.corp.test", 1): bytes([192, 0, 2, 4]),
    ("six.example.test", 28): socket.inet_pton(socket.AF_INET6, "2001:db8::6"),
    ("1.2.0.192.in-addr.arpa", 12): b"\x03www\x07example\x04test\x00",
}
seen = set()
def answer(message, tcp):
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode())
        at += 1 + message[at]
    name, kind = ".".join(labels).lower(), struct.unpack("!H", message[at + 1:at + 3])[0]
    if "lossy" in name and not tcp and (name, kind) not in seen:
        seen.add((name, kind))
        return None
    data = ANSWERS.get((name, kind))
    known = any(own == name for own, _ in ANSWERS)
    cut = "big" in name and not tcp
    flags = 0x8180 | (0x200 if cut else 0) | (0 if known else 3)
    count = 1 if data and not cut else 0
    head = message[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + message[12:at + 5]
    record = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 5, len(data)) + data if count else b""
    return head + record
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        while head := self.request.recv(2, socket.MSG_WAITALL):
            message = self.request.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
            reply = answer(message, True)
            self.request.sendall(struct.pack("!H", len(reply)) + reply)
class V6(socketserver.ThreadingTCPServer):
    address_family, allow_reuse_address = socket.AF_INET6, True
threading.Thread(target=V6(("::", 53), Tcp).serve_forever, daemon=True).start()
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 53))
print("ready", flush=True)
while True:
    message, peer = udp.recvfrom(4096)
    reply = answer(message, False)
    if reply:
        udp.sendto(reply, peer)
"#;

/// Prints what the C library's resolver finds.
const CLIENT: &str = r#"
import socket, sys
for word in sys.argv[1:]:
    try:
        if word[0].isdigit():
            print(socket.gethostbyaddr(word)[0])
        else:
            print(sorted({found[4][0] for found in socket.getaddrinfo(word, None)})[0])
    except OSError as error:
        print(type(error).__name__)
"#;

#[test]
fn questions_about_the_world_are_answered_by_servers_of_every_kind() {
    let sandbox = Sandbox::new();
    let _ = sandbox.cais(["pull", "-q", "python:3"]).ok();
    std::fs::write(sandbox.work().join("server.py"), SERVER).unwrap();
    std::fs::write(sandbox.work().join("client.py"), CLIENT).unwrap();
    let create = "$E network create --ipv6 --subnet 10.77.0.0/24 --subnet fd00:77::/64 upstream";
    let _ = sandbox.shell(create).ok();
    let _ = sandbox.cais(["network", "create", "own"]).ok();
    let server = "$E run -d --name ns --network upstream --ip 10.77.0.5 --ip6 fd00:77::5 \
        -v $PWD/server.py:/server.py python:3 python3 /server.py >/dev/null; \
        end=$(($(date +%s)+120)); \
        until $E logs ns | grep -q ready; do [ $(date +%s) -lt $end ] || exit 9; done";
    let _ = sandbox.shell(server).ok();
    let ask = |options: &str, words: &str, expected: &str| {
        let line = format!(
            "$E run --rm --network own {options} -v $PWD/client.py:/client.py python:3 \
             python3 /client.py {words}"
        );
        sandbox.shell(&line).out(expected);
    };
    // Over TCP where a datagram has no room, and again where one is lost.
    ask(
        "--dns 10.77.0.5",
        "www.example.test big.example.test lossy.example.test six.example.test 192.0.2.1 no.test",
        "192.0.2.1\n192.0.2.2\n192.0.2.3\n2001:db8::6\nwww.example.test\ngaierror\n",
    );
    // By IPv6, and behind servers that are not there.
    ask("--dns fd00:77::5", "big.example.test", "192.0.2.2\n");
    ask("--dns 10.77.0.1 --dns fd00:77::1 --dns 10.77.0.5", "big.example.test", "192.0.2.2\n");
    // What is not whole is looked for in the domains that were given.
    ask("--dns 10.77.0.5 --dns-search corp.test", "host host.corp", "192.0.2.4\ngaierror\n");
    ask("--dns 10.77.0.5 --dns-search test --dns-option ndots:2", "host.corp", "192.0.2.4\n");
    let _ = sandbox.cais(["rm", "-f", "ns"]).ok();
    let _ = sandbox.cais(["network", "rm", "upstream", "own"]).ok();
}

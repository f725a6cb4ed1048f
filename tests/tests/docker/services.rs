//! Real programs that find each other by name: a web server before an application that keeps its
//! data in PostgreSQL and its counters in Redis.

use testkit::Sandbox;

/// Answers with what both stores say.
const APPLICATION: &str = r#"
import http.server, pg8000, redis
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            db = pg8000.connect(user="postgres", host="db", database="postgres")
            db.autocommit = True
            hits = redis.Redis(host="cache", socket_timeout=5).incr("hits")
            cursor = db.cursor()
            cursor.execute("create table if not exists visits (name text)")
            cursor.execute("insert into visits values (%s)", (self.path,))
            cursor.execute("select count(*) from visits")
            rows = cursor.fetchone()[0]
            db.close()
            body, code = f"hits {hits} rows {rows}\n".encode(), 200
        except Exception as error:
            body, code = f"{type(error).__name__}: {error}\n".encode(), 500
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"#;

/// Asks for the application's address each time, as whoever's containers come and go does.
const WEB: &str = r"
daemon off; error_log stderr; pid /tmp/pid; events {}
http {
    access_log off; resolver 127.0.0.11 valid=1s ipv6=off;
    server {
        listen 80;
        location / { set $to app:8000; proxy_pass http://$to; proxy_connect_timeout 2s; }
    }
}
";

/// Asks the web server until it answers with these words.
fn ask(sandbox: &Sandbox, expected: &str) {
    let script = format!(
        "end=$(($(date +%s)+180)); until got=$(curl -s --max-time 10 http://127.0.0.1:8080/x); [ \"$got\" = '{expected}' ]; do \
         case $got in 'hits '*) break;; esac; [ $(date +%s) -lt $end ] || break; done; echo \"$got\""
    );
    sandbox.shell(&script).out(&format!("{expected}\n"));
}

#[test]
fn a_web_server_an_application_and_two_stores_find_each_other() {
    let sandbox = Sandbox::new();
    sandbox.need_family("services");
    for image in ["services", "nginx"] {
        let _ = sandbox.cais(["pull", "-q", image]).ok();
    }
    for (name, text) in [("app.py", APPLICATION), ("nginx.conf", WEB)] {
        std::fs::write(sandbox.work().join(name), text).unwrap();
    }
    let _ = sandbox.cais(["network", "create", "back"]).ok();
    let _ = sandbox.cais(["network", "create", "front"]).ok();
    let postgres = "$E run -d --name db --network back -u postgres services sh -c \
        'echo host all all all trust >/tmp/hba; cd /etc/postgresql/*/main; \
         exec /usr/lib/postgresql/*/bin/postgres -D /var/lib/postgresql/*/main \
         -c config_file=$PWD/postgresql.conf -c hba_file=/tmp/hba -c unix_socket_directories=/tmp \
         -c listen_addresses=* \
         -c fsync=off -c ssl=off' >/dev/null";
    let redis = "$E run -d --name cache --network back services redis-server --protected-mode no \
        --save '' >/dev/null";
    let app = "$E run -d --name app --network back --network front -v $PWD/app.py:/app.py:ro \
        services python3 /app.py >/dev/null";
    let web = "$E run -d --name web --network front -p 8080:80 -v $PWD/nginx.conf:/nginx.conf:ro \
        nginx nginx -c /nginx.conf >/dev/null";
    for line in [postgres, redis, app, web] {
        let _ = sandbox.shell(line).ok();
    }
    ask(&sandbox, "hits 1 rows 1");
    ask(&sandbox, "hits 2 rows 2");
    // The stores are none of the web server's business.
    let _ = sandbox.shell("! $E exec web getent hosts cache").ok();

    // Another has the application's address when it comes back: its name has the new one.
    let address = "$E inspect -f '{{.NetworkSettings.Networks.front.IPAddress}}' app";
    let before = sandbox.shell(address).ok().to_owned();
    let _ = sandbox.cais(["stop", "-t", "0", "app"]).ok();
    let squat = format!(
        "$E run -d --name squatter --network front --ip {} nginx sleep 1000 >/dev/null",
        before.trim()
    );
    let _ = sandbox.shell(&squat).ok();
    let _ = sandbox.cais(["start", "app"]).ok();
    assert_ne!(sandbox.shell(address).ok(), before);
    ask(&sandbox, "hits 3 rows 3");
    // A store that was away, and has forgotten.
    let _ = sandbox.cais(["restart", "-t", "5", "cache"]).ok();
    ask(&sandbox, "hits 1 rows 4");
    let _ = sandbox.shell("$E rm -f $($E ps -aq)").ok();
    let _ = sandbox.cais(["network", "rm", "back", "front"]).ok();
}

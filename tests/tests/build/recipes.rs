//! Dockerfiles after the patterns that people use, on the images of the pool.

use testkit::Sandbox;

use super::{build, run};

#[test]
fn a_static_site_behind_nginx() {
    let sandbox = Sandbox::new();
    let files = r#"//- site/index.html
<h1>hello</h1>
//- nginx.conf
daemon off;
error_log /dev/stderr;
events {}
http { access_log off; server { listen 8080; root /usr/share/nginx/html; } }
//- Dockerfile
# syntax=docker/dockerfile:1
FROM busybox AS assets
WORKDIR /site
COPY site/ ./
RUN --network=none find . -name '*.html' -exec sed -i 's/hello/built/' {} +

FROM nginx
COPY nginx.conf /etc/nginx/nginx.conf
COPY --from=assets /site /usr/share/nginx/html
EXPOSE 8080
STOPSIGNAL SIGQUIT
CMD ["nginx"]
"#;
    let _ = build(&sandbox, files, &[]).ok();
    let page = "cat /usr/share/nginx/html/index.html";
    assert_eq!(run(&sandbox, page), "<h1>built</h1>\n");
    assert!(run(&sandbox, "nginx -t 2>&1").contains("successful"));
}

#[test]
fn a_python_application_with_an_environment_of_its_own() {
    let sandbox = Sandbox::new();
    let files = r#"//- greet/__init__.py
def hello(): return "hello from the environment"
//- main.py
import greet
print(greet.hello())
//- Dockerfile
FROM python:3 AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app

FROM base AS deps
RUN --network=none mkdir -p /venv/lib
COPY greet /venv/lib/greet

FROM base
RUN --network=none echo 'app:x:1001:1001::/app:/bin/sh' >> /etc/passwd
COPY --from=deps /venv /venv
ENV PYTHONPATH=/venv/lib
COPY --chown=app main.py .
USER app
ENTRYPOINT ["python3"]
CMD ["main.py"]
"#;
    let _ = build(&sandbox, files, &[]).ok();
    let ran = sandbox.cais(["run", "--rm", "--network", "none", "built"]);
    ran.code(0).out("hello from the environment\n");
}

#[test]
fn a_debian_image_with_a_script_and_a_health_check() {
    let sandbox = Sandbox::new();
    let files = r#"//- entrypoint.sh
#!/bin/sh
set -e
if [ "$1" = serve ]; then shift; exec echo "serving $* as $(id -un)"; fi
exec "$@"
//- Dockerfile
ARG DEBIAN=debian:latest
FROM ${DEBIAN}
LABEL org.opencontainers.image.title="app"
RUN --network=none set -eux; \
    # a comment in the middle
    echo 'app:x:999:999::/nonexistent:/usr/sbin/nologin' >> /etc/passwd; \
    mkdir -p /var/lib/app; \
    chown 999:999 /var/lib/app
COPY --chmod=0755 entrypoint.sh /usr/local/bin/
VOLUME /var/lib/app
HEALTHCHECK --interval=10s CMD ["true"]
USER app
ENTRYPOINT ["entrypoint.sh"]
CMD ["serve", "all"]
"#;
    let _ = build(&sandbox, files, &[]).ok();
    let ran = sandbox.cais(["run", "--rm", "--network", "none", "built"]);
    ran.code(0).out("serving all as app\n");
}

#[test]
fn a_binary_alone() {
    let sandbox = Sandbox::new();
    let files = r#"//- Dockerfile
FROM busybox AS build
RUN --network=none mkdir -p /rootfs/bin /rootfs/tmp && chmod 1777 /rootfs/tmp && \
    cp -L /bin/busybox /rootfs/bin/echo
FROM scratch
COPY --from=build /rootfs/ /
USER 65532:65532
ENTRYPOINT ["/bin/echo"]
CMD ["alone"]
"#;
    let _ = build(&sandbox, files, &["-o", "out"]).ok();
    sandbox.cais(["run", "--rm", "--network", "none", "built"]).code(0).out("alone\n");
    sandbox.shell("ls -A out; stat -c %a out/tmp").code(0).out("bin\ntmp\n1777\n");
}

//! Node.js with `npm ci`, as people have it in Dockerfiles: with what is on this machine, since the
//! packages that Debian makes of npm are hundreds.

use std::path::Path;

use testkit::Sandbox;

use super::write;

const NODE: &str = "/usr/bin/node";
const NPM: &str = "/usr/lib/node_modules/npm";

const BASE: &str = "//- base/Dockerfile
FROM debian
COPY node /usr/local/bin/node
COPY npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
";

/// An application with a dependency that runs and one that is for development only; both lie beside
/// it, so that no registry is asked.
const APPLICATION: &str = r#"//- package.json
{"name": "app", "version": "1.0.0", "scripts": {"build": "node build.js"},
 "dependencies": {"greet": "file:./packages/greet"},
 "devDependencies": {"shout": "file:./packages/shout"}}
//- package-lock.json
{"name": "app", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": {
  "": {"name": "app", "version": "1.0.0", "dependencies": {"greet": "file:./packages/greet"},
       "devDependencies": {"shout": "file:./packages/shout"}},
  "node_modules/greet": {"resolved": "packages/greet", "link": true},
  "node_modules/shout": {"resolved": "packages/shout", "link": true},
  "packages/greet": {"version": "1.2.3"},
  "packages/shout": {"version": "2.0.0", "dev": true}}}
//- packages/greet/package.json
{"name": "greet", "version": "1.2.3"}
//- packages/greet/index.js
module.exports = name => `hello ${name}`;
//- packages/shout/package.json
{"name": "shout", "version": "2.0.0"}
//- packages/shout/index.js
module.exports = text => text.toUpperCase();
//- build.js
require("fs").mkdirSync("dist", {recursive: true});
require("fs").writeFileSync("dist/name", require("shout")("world"));
//- main.js
const fs = require("fs");
const name = fs.existsSync("dist/name") ? fs.readFileSync("dist/name", "utf8") : "you";
console.log(require("greet")(name));
//- .dockerignore
node_modules
dist
"#;

const DOCKERFILES: [(&str, &str, &str); 3] = [
    (
        "plain",
        "FROM node
WORKDIR /app
COPY package.json package-lock.json ./
COPY packages packages
RUN npm ci --offline --no-audit --no-fund
COPY . .
CMD [\"node\", \"main.js\"]
",
        "hello you\n",
    ),
    (
        "multi-stage",
        "FROM node AS deps
WORKDIR /app
COPY package*.json ./
COPY packages packages
RUN --mount=type=cache,target=/root/.npm npm ci --offline --omit=dev --no-audit --no-fund
FROM node AS build
WORKDIR /app
COPY . .
RUN --mount=type=cache,target=/root/.npm npm ci --offline --no-audit --no-fund && npm run build
FROM node
ENV NODE_ENV=production
WORKDIR /app
COPY --from=deps /app/node_modules ./node_modules
COPY --from=deps /app/packages ./packages
COPY --from=build /app/dist ./dist
COPY main.js .
RUN useradd --system node
USER node
CMD [\"node\", \"main.js\"]
",
        "hello WORLD\n",
    ),
    (
        "healthy",
        "FROM node
ENV NODE_ENV=production
WORKDIR /usr/src/app
COPY --chown=33:33 . .
RUN npm ci --offline --omit=dev --ignore-scripts && npm cache clean --force
EXPOSE 3000
HEALTHCHECK --interval=30s CMD node -e 0
ENTRYPOINT [\"node\"]
CMD [\"main.js\"]
",
        "hello you\n",
    ),
];

/// Builds all of them; the digests of their manifests.
fn build_all(sandbox: &Sandbox) -> Vec<String> {
    write(&sandbox.work(), BASE);
    let script = format!(
        "cp {NODE} base/node && cp -r {NPM} base/npm && $E build -q --network none -t node base"
    );
    let _ = sandbox.shell(&script).ok();
    let digest = |name: &str, dockerfile: &str| {
        write(&sandbox.work().join(name), &format!("{APPLICATION}//- Dockerfile\n{dockerfile}"));
        let build = format!(
            "$E build -q --network none -t {name} --metadata-file meta.json {name} >/dev/null && \
             sed -n 's/.*containerimage.digest\": //p' meta.json"
        );
        sandbox.shell(&build).ok().to_owned()
    };
    DOCKERFILES.iter().map(|(name, dockerfile, _)| digest(name, dockerfile)).collect()
}

#[test]
fn npm_installs_what_is_locked_and_the_same_every_time() {
    if [NODE, NPM].iter().any(|path| !Path::new(path).exists()) {
        eprintln!("skipped: there is no {NODE} with {NPM}");
        return;
    }
    let (here, elsewhere) = (Sandbox::new(), Sandbox::new());
    let digests = build_all(&here);
    for (name, _, expected) in DOCKERFILES {
        here.cais(["run", "--rm", "--network", "none", name]).code(0).out(expected);
    }
    assert_eq!(digests, build_all(&elsewhere));
}

#!/usr/bin/env python3
"""Clients' own test suites against an AMQP 0-9-1 server on 127.0.0.1.

    suites.py NAME... --port PORT [--management PORT] [--server rabbitmq-3.10]

Each suite is taken, at the version that is pinned here, from the registry in which its authors publish it, and kept below
target/amqp-suites. Nothing of it is part of this repository. A test that fails must be in skips/NAME.txt, which says why; a test that is
there and passes is only told. Exits with 0 if nothing else failed. `--list` shows the suites. `--server` names a folder of skips/ with
more of them: what a suite asks for that this server does not do.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOME = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "amqp-suites"
# The port of the server's management API, if it has one.
MANAGEMENT = None
# Longest that one suite may take.
LIMIT_S = int(os.environ.get("SUITE_LIMIT_S", "280"))


def call(command, directory=None, **environment):
    """Runs what must succeed."""
    subprocess.run(command, cwd=directory, env={**os.environ, **environment}, check=True, stdout=sys.stderr)


def test(command, directory, **environment):
    """Runs tests: they may fail, and tell how in their output."""
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, text=True, errors="replace", timeout=LIMIT_S, check=False)
    return done.stdout


def fresh(name):
    """A directory to unpack into; `None` if it was filled before."""
    directory = HOME / name
    if (directory / ".whole").exists():
        return directory, False
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory, True


def whole(directory):
    (directory / ".whole").touch()
    return directory


def unpack(archive, digest, directory):
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != digest:
        raise SystemExit(f"{archive.name} is not what was pinned: its sha256 is {found}")
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")


def python(directory, packages):
    call([sys.executable, "-m", "venv", directory / "venv"])
    pip = directory / "venv/bin/pip"
    call([pip, "install", "--quiet", "--disable-pip-version-check", *packages])


def sdist(package, version, digest, requirements):
    directory, empty = fresh(f"{package}-{version}")
    if empty:
        python(directory, [f"{package}=={version}", *requirements])
        call([directory / "venv/bin/pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", directory,
              f"{package}=={version}"])
        unpack(next(directory.glob("*.tar.gz")), digest, directory)
        whole(directory)
    return directory, directory / f"{package}-{version}"


def junit(directory):
    """Results of a file in JUnit's form, which pytest writes."""
    results, said = {}, {}
    for case in xml.etree.ElementTree.parse(directory / "results.xml").iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        bad = [child for child in case if child.tag in ("failure", "error")]
        skipped = case.find("skipped") is not None
        results[name] = "failed" if bad or results.get(name) == "failed" else "skipped" if skipped else "passed"
        if bad:
            said[name] = (bad[0].get("message") or bad[0].text or "").strip()
    return results, said


# Some tests wait for a fixed time: on a busy machine what failed once may pass.
def pytest(directory, source, what, **environment):
    (directory / "results.xml").unlink(missing_ok=True)
    command = [directory / "venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider", "--timeout=60", "--tb=short", "--reruns=2",
               f"--junitxml={directory / 'results.xml'}", *what]
    output = test(command, source, PYTHONDONTWRITEBYTECODE="1", **environment)
    if not (directory / "results.xml").exists():
        raise SystemExit(f"pytest wrote no results: {output[-3000:]}")
    return junit(directory)


PYTEST = ["pytest==8.0.0", "pytest-timeout==2.3.1", "pytest-rerunfailures==14.0"]


def py_amqp(port):
    """py-amqp's integration tests, from its source distribution on PyPI. Those over TLS need a server's certificate: left out."""
    directory, source = sdist("amqp", "5.4.2", "9362660c4a31150cf18e78cae2ce8aa1e929fc6c6739e69f6dd5dbea9c3edc82", PYTEST)
    return pytest(directory, source, ["t/integration/test_rmq.py", "-k", "not tls"], RABBITMQ_5672_TCP=str(port),
                  RABBITMQ_HOST="127.0.0.1")


def kombu(port):
    """kombu's integration tests of its pyamqp transport, from its source distribution on PyPI."""
    directory, source = sdist("kombu", "5.7.0", "31e62fdfd2381caa3422f8e02b84a491d9a2180ddda74507b57f4cb1e1c2c2c9", [*PYTEST, "amqp==5.4.2", "hypothesis<7", "pytest-freezer==0.4.9"])
    return pytest(directory, source, ["t/integration/test_py_amqp.py"], RABBITMQ_5672_TCP=str(port), RABBITMQ_HOST="127.0.0.1")


# No registry has pika's acceptance tests: its source distributions on PyPI carry none. PIKA_SOURCE names a checkout of its repository.
PIKA_REQUIREMENTS = ["tornado==6.5.2", "twisted==25.5.0", "gevent==25.9.1", "setuptools==80.9.0"]


def pika(port):
    """pika's acceptance tests, of the checkout that PIKA_SOURCE names: no registry has them."""
    checkout = os.environ.get("PIKA_SOURCE")
    if not checkout:
        raise SystemExit("PIKA_SOURCE must name a checkout of pika: its distributions on PyPI carry no tests")
    directory, empty = fresh("pika")
    if empty:
        python(directory, [*PYTEST, *PIKA_REQUIREMENTS])
        whole(directory)
    source = directory / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(checkout, source, ignore=shutil.ignore_patterns(".git"))
    # The port is part of its text.
    for path in [*(source / "tests/acceptance").glob("*.py"), *(source / "tests/base").glob("*.py")]:
        path.write_text(re.sub(r"\b5672\b", str(port), path.read_text()))
    return pytest(directory, source, ["tests/acceptance"])


def amqplib(port):
    """amqplib's whole test suite, from the last of its packages on npm that carried it."""
    directory, empty = fresh("amqplib-2.2.0")
    if empty:
        call(["npm", "pack", "--silent", "amqplib@2.2.0"], directory)
        unpack(directory / "amqplib-2.2.0.tgz", "2526aa08f2521ceb516cb5fe8f64775c0fb4bc32c75872c74a10e5c1a6cee440", directory)
        (directory / "claire").mkdir()
        (directory / "package.json").write_text('{"private": true}')
        call(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "claire@0.4.1"], directory)
        whole(directory)
    # Tests that name no port mean the client's own default.
    for path in (directory / "package/lib").glob("*.js"):
        path.write_text(re.sub(rf"'amqp:' \? \d+", f"'amqp:' ? {port}", path.read_text()))
    output = test(["node", "--test", "--test-reporter=tap", "--test-timeout=10000", *sorted(
        str(path) for path in (directory / "package/test").glob("*.test.js"))], directory / "package",
        URL=f"amqp://127.0.0.1:{port}", NODE_PATH=str(directory / "node_modules"))
    return tap(output)


def tap(output):
    """Results of node's runner: tests within suites within files, each deeper by four spaces; only those without tests below count."""
    results, said, path = {}, {}, {}
    last = None
    lines = output.splitlines()
    for at, line in enumerate(lines):
        begun = re.match(r"^( *)# Subtest: (.*)$", line)
        if begun:
            depth = len(begun[1]) // 4
            path = {level: name for level, name in path.items() if level < depth}
            path[depth] = begun[2]
            continue
        ended = re.match(r"^( *)(not ok|ok) \d+ - (.*?)( # [A-Z]+.*)?$", line)
        if ended:
            depth = len(ended[1]) // 4
            names = [path[level] for level in sorted(path) if level < depth]
            if any("type: 'suite'" in text for text in lines[at + 1:at + 5]):
                continue
            name = " > ".join([*names, ended[3]])
            results[name] = "skipped" if ended[4] else "passed" if ended[2] == "ok" else "failed"
            if results[name] == "failed":
                said[name] = next((text.strip() for text in lines[at:at + 12] if "error:" in text), "")
            last = name
    if last is None:
        raise SystemExit(f"node's runner told of no test: {output[-3000:]}")
    return results, said


def amqp091_go(port):
    """amqp091-go's tests, its integration tests among them, from its module in the Go module proxy."""
    module, version = "github.com/rabbitmq/amqp091-go", "v1.16.0"
    directory, empty = fresh(f"amqp091-go-{version}")
    if empty:
        # The proxy's checksum database has the module's sum; go checks it.
        found = subprocess.run([go(), "mod", "download", "-json", f"{module}@{version}"], check=True, stdout=subprocess.PIPE)
        shutil.copytree(json.loads(found.stdout)["Dir"], directory / "module")
        for path in [directory / "module", *(directory / "module").rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
        whole(directory)
    shutil.rmtree(directory / "source", ignore_errors=True)
    shutil.copytree(directory / "module", directory / "source")
    # The tests of recovery have the management API cut a connection. Its port is part of their text.
    leave_out = []
    if MANAGEMENT is None:
        leave_out = ["-skip", "^TestConnectionRecovery"]
    else:
        for path in [directory / "source/recovery_test.go", *(directory / "source/internal").rglob("*.go")]:
            path.write_text(re.sub(r"\b15672\b", str(MANAGEMENT), path.read_text()))
    output = test([go(), "test", "-tags", "integration", "-count=1", "-json", "-timeout", f"{LIMIT_S - 20}s", *leave_out, "."],
                  directory / "source", AMQP_URL=f"amqp://guest:guest@127.0.0.1:{port}/")
    results, said = {}, {}
    for line in output.splitlines():
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        name = event.get("Test")
        if not name:
            continue
        if event["Action"] in ("pass", "fail", "skip"):
            results[name] = {"pass": "passed", "fail": "failed", "skip": "skipped"}[event["Action"]]
        elif event["Action"] == "output":
            said[name] = said.get(name, "") + event["Output"]
        elif event["Action"] == "run":
            results[name] = "failed"
    if not results:
        raise SystemExit(f"go told of no test: {output[-3000:]}")
    return results, said


def go():
    return os.environ.get("GO") or shutil.which("go") or "/usr/local/go/bin/go"


def lapin(port):
    """lapin's integration tests, from its package on crates.io."""
    version = "4.12.3"
    directory, empty = fresh(f"lapin-{version}")
    if empty:
        # A package that depends on it makes cargo fetch it and check its sum.
        (directory / "src").mkdir()
        (directory / "src/lib.rs").touch()
        (directory / "Cargo.toml").write_text(
            f'[package]\nname = "suite"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\nlapin = "={version}"\n[workspace]\n')
        call(["cargo", "fetch", "--quiet"], directory)
        found = json.loads(subprocess.run(["cargo", "metadata", "--format-version=1"], cwd=directory, check=True,
                                          stdout=subprocess.PIPE).stdout)
        manifest = next(package["manifest_path"] for package in found["packages"] if package["name"] == "lapin")
        shutil.copytree(pathlib.Path(manifest).parent, directory / "source")
        with open(directory / "source/Cargo.toml", "a") as file:
            file.write("\n[workspace]\n")
        whole(directory)
    output = test(["cargo", "test", "--locked", "--manifest-path", directory / "source/Cargo.toml", "--target-dir", HOME / "lapin-target",
                   "--no-fail-fast", "--tests"], directory / "source", AMQP_ADDR=f"amqp://127.0.0.1:{port}/%2f")
    results, said, binary = {}, {}, ""
    for line in output.splitlines():
        running = re.match(r"^ +Running (?:unittests )?(\S+)", line)
        if running:
            binary = pathlib.Path(running[1]).stem
        ended = re.match(r"^test (\S+) \.\.\. (ok|FAILED|ignored)", line)
        if ended:
            results[f"{binary}::{ended[1]}"] = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}[ended[2]]
    if not results:
        raise SystemExit(f"cargo told of no test: {output[-3000:]}")
    for name, result in results.items():
        if result == "failed":
            said[name] = output[-1500:]
    return results, said


SUITES = {"amqp091-go": amqp091_go, "amqplib": amqplib, "kombu": kombu, "lapin": lapin, "pika": pika, "py-amqp": py_amqp}


def skips(name, server):
    """Tests that may fail: a name a line, two spaces, `#` and the reason. A name that ends with `*` stands for all that begin so."""
    allowed = {}
    for path in [HERE / "skips" / f"{name}.txt", *([HERE / "skips" / server / f"{name}.txt"] if server else [])]:
        for line in path.read_text().splitlines() if path.exists() else []:
            if not line.strip() or line.startswith("#"):
                continue
            test_name, _, reason = line.partition("  # ")
            if not reason:
                raise SystemExit(f"{path}: no reason for {line}")
            allowed[test_name.strip()] = reason.strip()
    return allowed


def run(name, port, server):
    results, said = SUITES[name](port)
    counts = {kind: sum(result == kind for result in results.values()) for kind in ("passed", "failed", "skipped")}
    allowed = skips(name, server)

    def reason(test_name):
        for pattern, why in allowed.items():
            if test_name == pattern or (pattern.endswith("*") and test_name.startswith(pattern[:-1])):
                return why
        return None

    wrong = []
    for test_name, result in sorted(results.items()):
        why = reason(test_name)
        if result == "failed" and why is None:
            wrong.append(test_name)
            print(f"   FAILED {test_name}: {said.get(test_name, '')[-1500:]}")
        elif result == "failed":
            print(f"   fails, as listed: {test_name}: {why}")
        elif result == "passed" and why is not None:
            print(f"   passes, though listed: {test_name}")
    listed = counts["failed"] - len(wrong)
    print(f"== {name}: {counts['passed']} passed, {listed} failed as listed, {len(wrong)} failed otherwise, {counts['skipped']} skipped")
    (HOME / f"{name}.json").write_text(json.dumps(results, indent=1, sort_keys=True))
    return not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--port", type=int, default=5672)
    parser.add_argument("--management", type=int)
    parser.add_argument("--server", choices=["rabbitmq-3.10"])
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        for name, suite in SUITES.items():
            print(f"{name:12} {suite.__doc__}")
        return 0
    unknown = [name for name in given.names if name not in SUITES]
    if unknown or not given.names:
        raise SystemExit(f"name suites of these: {', '.join(SUITES)}")
    global MANAGEMENT
    MANAGEMENT = given.management
    HOME.mkdir(parents=True, exist_ok=True)
    return 0 if all([run(name, given.port, given.server) for name in given.names]) else 1


if __name__ == "__main__":
    sys.exit(main())

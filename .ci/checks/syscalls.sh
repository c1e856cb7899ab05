#!/usr/bin/env bash
# In a trace of the server's system calls each confirm on a socket, over HTTP, gRPC and AMQP, follows the fdatasync that covers its message;
# and one that does not is found. Power cuts within what such a trace shows lose nothing that was confirmed. Wants $POSTHOUSE (the binary).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v strace >/dev/null || { echo "strace is not installed: run .ci/run once without --no-install"; exit 1; }
strace -f -o /dev/null true || { echo "strace may not trace here: allow ptrace (in a container: --cap-add SYS_PTRACE)"; exit 1; }

output="$(mktemp)"
trap 'rm -f "$output"' EXIT
# The whole workspace, as in the step `tests`: with one package alone, features would differ and all would be built again.
POSTHOUSE_PROOF_TRACED="${POSTHOUSE_PROOF_TRACED:-50}" POSTHOUSE_PROOF_IMAGES="${POSTHOUSE_PROOF_IMAGES:-10}" \
    cargo test --workspace --test it -- --ignored --nocapture syscalls:: power_cut_traced:: >"$output" 2>&1 || { cat "$output"; exit 1; }
cat "$output"
# A name that no longer matches would pass with nothing run.
grep -q '^test result: ok. 3 passed' "$output" || { echo "the three tests of system calls were not all run"; exit 1; }

#!/usr/bin/env bash
# The order flow of a shop, step by step, each command printed before it runs. README.md walks through it.
# It needs `posthouse` and `curl` on the path and a running server with nothing in it yet, at $POSTHOUSE_URL.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export POSTHOUSE_URL="${POSTHOUSE_URL:-http://127.0.0.1:7070}"

# show COMMAND: prints it as typed at a prompt, and runs it.
show() {
    echo "\$ $1"
    eval "$1" 2>&1
}

# As show, of a command that fails: its failure is part of the story.
show_failing() {
    if show "$1"; then
        echo "this should have failed: $1" >&2
        exit 1
    fi
}

# soon COMMAND: waits until it succeeds; what it asks about happens a moment after the step before.
soon() {
    for _ in $(seq 200); do
        if eval "$1" >/dev/null 2>&1; then return 0; fi
        sleep 0.05
    done
    echo "still not so after 10 s: $1" >&2
    exit 1
}

# 1. A topic that keeps a log, and the queues that want some of its messages.
show "posthouse topic create orders --retain 7d"
show "posthouse queue create payment --max-attempts 3 --retry-initial 1s --retry-jitter=false"
show "posthouse queue create inventory"
show "posthouse queue create email"
show "posthouse queue create analytics"
show "posthouse binding create orders payment --subject 'orders.*.created'"
show "posthouse binding create orders inventory --subject 'orders.*.created' --subject 'orders.*.cancelled'"
show "posthouse binding create orders email --header notify=yes"
show "posthouse binding create orders analytics"

# 2. Orders come in.
show "posthouse publish orders.eu.created '{\"order\": 1, \"amount\": 30}' --key customer-7 --header notify=yes"
show "posthouse publish orders.us.created '{\"order\": 2, \"amount\": 120}' --key customer-8"
show "curl -sS \"\$POSTHOUSE_URL/v1/default/topics/orders/messages?subject=orders.eu.created&key=customer-7\" -H 'content-type: application/json' -d '{\"order\": 3, \"amount\": 55}'"
echo
show "posthouse publish orders.eu.shipped '{\"order\": 1}' --key customer-7 --header notify=yes"
show "posthouse queue list"

# 3. A worker charges them, and fails on one.
show "posthouse consume payment --exec ./charge.sh --max 5"
soon "posthouse dlq list -o json | grep -q '\"messages\": 1'"
show "posthouse dlq show payment"

# 4. The bank is back: put the order back, and charge it.
show "posthouse dlq redrive payment"
show "BANK=up posthouse consume payment --exec ./charge.sh --max 1"

# 5. The others work at their own pace, over HTTP as well.
show "posthouse consume inventory --wait 0s --body"
show "curl -sS \"\$POSTHOUSE_URL/v1/default/queues/email/receive\" -H 'content-type: application/json' -d '{\"max\": 1, \"auto_ack\": true}'"
echo

# 6. A service that was made later wants everything from the start.
show "posthouse queue create audit"
show "posthouse topic replay orders --to audit"
show "posthouse consume audit --wait 0s"
show "posthouse consume --topic orders --from 2 --wait 0s --body"

# 7. Ask, and answer.
show_failing "posthouse request stock.check '{\"sku\": \"a-1\"}'"
answers="$(mktemp)"
trap 'rm -f "$answers"' EXIT
echo "\$ posthouse reply stock.check '{\"left\": 3}' --max 1 &"
posthouse reply stock.check '{"left": 3}' --max 1 >"$answers" 2>&1 &
soon "test -s '$answers'"
cat "$answers"
show "posthouse request stock.check '{\"sku\": \"a-1\"}'"
wait

# 8. What is left.
show "posthouse queue list"

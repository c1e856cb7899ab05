#!/bin/sh
# Charges an order, or pretends to: the message's body comes on standard input, the rest in MESSAGE_* variables.
# Exit code 0 acknowledges the message; any other is a failed attempt, with the last line of standard error as the reason.
order=$(sed 's/.*"order": *\([0-9]*\).*/\1/')
if [ "$order" = 2 ] && [ "${BANK:-down}" = down ]; then
    echo "order $order, attempt $MESSAGE_ATTEMPT: no answer from the bank" >&2
    exit 1
fi
echo "order $order, attempt $MESSAGE_ATTEMPT: charged"

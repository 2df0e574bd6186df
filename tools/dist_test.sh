#!/usr/bin/env bash
# Test with N processes: tools/dist_test.sh CONFIG CHECKPOINT N [options of test.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each. Without a GPU the processes
# talk over gloo.
set -euo pipefail

if (( $# < 3 )); then
    echo "usage: $0 CONFIG CHECKPOINT N [options of test.py]" >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

if [[ ${NNODES:-1} == 1 && -z ${PORT:-} && -z ${MASTER_ADDR:-} ]]; then
    rendezvous=(--standalone)  # a free port, so that two runs on one machine do not meet
else
    rendezvous=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}"
                --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
fi
exec "${PYTHON:-python}" -m torch.distributed.run "${rendezvous[@]}" --nproc_per_node "$3" \
    "$root/tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"

#!/bin/bash
# A sweep on the GPUs of one or more Slurm nodes:
#
#     sbatch cluster/slurm.sh sweeps/seed.toml /shared/results/seed [options of packsweep run]
#
# Any #SBATCH value below can be given to sbatch instead: sbatch --nodes=4 --partition=gpu cluster/slurm.sh ...
# RESULTS and the virtual environment (.venv where sbatch was called, or $VENV) must be seen by every
# node under the same path. What was committed stays: at the time limit, and when the job is
# preempted, the job goes back into the queue, and its next start measures only what is missing.
#
#SBATCH --job-name=packsweep
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
# One Ray per node, and nobody else's work beside a measurement.
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=08:00:00
# 120 s before the limit this script, and it alone (B:), is told; that is time enough to go back
# into the queue in an orderly way. Slurm says so at preemption too with
# PreemptParameters=send_user_signal; without it Slurm requeues the job by itself.
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=packsweep-%j.log

set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: sbatch cluster/slurm.sh SWEEP RESULTS [options of packsweep run]" >&2
    exit 2
fi
sweep=$1
case $2 in
    *://*) results=$2 ;; # an object store
    *) results=$(realpath -m "$2") ;;
esac
shift 2

# shellcheck source=/dev/null
source "${VENV:-.venv}/bin/activate"

# The batch script runs on the job's first node, which becomes Ray's head. One node needs no network.
head=127.0.0.1
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    # Where a node has several networks and the first is the wrong one: HEAD_IP=... sbatch ...
    head=${HEAD_IP:-$(hostname -I | cut -d' ' -f1)}
fi
# Of this job alone, so that two jobs on a node, one after the other, never meet.
address=$head:$((20000 + SLURM_JOB_ID % 10000))
RAY_TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/ray-$SLURM_JOB_ID-XXXXXX")
export RAY_TMPDIR

# Without a token anyone who reaches the node can run code as you. Tasks inherit it from srun.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
export RAY_USAGE_STATS_ENABLED=0
# Nodes that still boot or mount: the default is 30 s.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# vLLM's compiled code, on the node's own disk: a home on the network is slow, and shared by nodes
# that compile at the same moment.
private=("$RAY_TMPDIR")
if [ -z "${PACKSWEEP_CACHE:-}" ]; then
    PACKSWEEP_CACHE=${TMPDIR:-/tmp}/$(id -un)-packsweep
    export PACKSWEEP_CACHE
    private+=("$PACKSWEEP_CACHE")
fi
# Ray holds many sockets and files open.
ulimit -n "$(ulimit -Hn)"

# shellcheck disable=SC2317,SC2329  # the trap calls it
again() {
    trap '' TERM # going back into the queue ends the job with TERM as well
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "${MAX_RESTARTS:-50}" ]; then
        echo "packsweep: restarted $SLURM_RESTART_COUNT times, not again; sbatch the same to go on"
        return
    fi
    echo "packsweep: time is up, back into the queue; what was committed is kept"
    # Fails where Slurm, which preempts the job, has requeued it already.
    scontrol requeue "$SLURM_JOB_ID" || true
}
trap again TERM

# --cpu-bind=none: a task is a whole node here, and would else be bound to one core.
on_each_node=(srun --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=0)

# Ray's servers are daemons. Where Slurm does not track processes by cgroup they outlive a preempted
# start of this job, and the next one would be refused. The nodes are this job's alone.
#
# On every node first: the folders must be this user's. Anybody could have made one of a name that
# can be guessed, and would own what is compiled and run from there.
# shellcheck disable=SC2016  # each node expands it
prepare='for folder in "$@"; do mkdir -p -m 700 "$folder";'\
' if [ -L "$folder" ] || [ ! -O "$folder" ]; then'\
' echo "packsweep: $folder on $(hostname) is not yours; set TMPDIR or PACKSWEEP_CACHE" >&2;'\
' exit 2; fi; chmod 700 "$folder"; done; exec ray stop --force'
"${on_each_node[@]}" bash -c "$prepare" packsweep "${private[@]}"

# In the background and waited for: bash runs a trap only between commands, but at once in a wait.
"${on_each_node[@]}" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    ${SLURM_GPUS_ON_NODE:+--num-gpus="$SLURM_GPUS_ON_NODE"} \
    ${SLURM_CPUS_ON_NODE:+--num-cpus="$SLURM_CPUS_ON_NODE"} \
    -- packsweep run "$sweep" --results "$results" --ray "$address" "$@" &
step=$!

status=0
wait "$step" || status=$?
# After TERM the first wait has ended and the step has not.
while kill -0 "$step" 2>/dev/null; do
    status=0
    wait "$step" || status=$?
done
exit "$status"

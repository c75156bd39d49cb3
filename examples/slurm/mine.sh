#!/bin/bash
# Mine on many GPUs: a job array, each task a share of the images, then one job that makes the store of the parts.
#
#   bash examples/slurm/mine.sh DATASET MODEL STORE.h5 16 [options of mine, the same for all]
#
# All tasks write into STORE.h5.parts, so STORE.h5 must lie where all of them see it. A task that is killed or fails is started again as
# it was: what it has mined is kept. `samsemi mine ... --dry-run` says beforehand what one machine would take.
set -euo pipefail

dataset=$1 model=$2 store=$3 shares=$4
mine=(samsemi mine "$dataset" --model "$model" --out "$store" --quiet "${@:5}")
task=(sbatch --parsable --gpus=1 --cpus-per-task=4 --requeue)

array=$("${task[@]}" --job-name=mine --array="1-$shares" --wrap "$(printf '%q ' "${mine[@]}") --part \$SLURM_ARRAY_TASK_ID/$shares")
merge=$("${task[@]}" --job-name=merge --dependency="afterok:$array" --wrap "$(printf '%q ' "${mine[@]}") --merge")
echo "mining: job $array, then $store: job $merge"

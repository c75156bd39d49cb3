#!/usr/bin/env bash
# What adapting SAM to few labels brings: prompted IoU, and the Dice of the masks that are mined.
#
#     bash examples/adapted.sh FOLDER OUT
#
# FOLDER has images/ and masks/. Compares the SAM as it is, adapted to the labeled cases, and adapted to mend the U-Net++'s out-of-fold masks
# too (--model). Mines with each, and measures the masks as accepted by default, and SAM's own with everything accepted (the same images for all).
# 40 labeled and 40 validation images of Kvasir-SEG take about 40 minutes on a CPU that does other work beside it, with
#     SIZE=128 ENCODER=mobilenet_v2 DECODER=48,32,16,12,8 ITERATIONS=500 OMP_NUM_THREADS=1 PRECISION=bf16
: "${SAM:=tiny}" "${SIZE:=256}" "${ENCODER:=resnet34}" "${DECODER:=256,128,64,32,16}" "${ITERATIONS:=2000}" "${FOLDS:=4}"
: "${ADAPT:=--all --iterations 200}" "${PRECISION:=auto}" "${PREPARE:=--labeled 40 --val 40 --test 0.1}"
set -euo pipefail

folder=${1:?"usage: bash examples/adapted.sh FOLDER OUT"}
out=${2:?"usage: bash examples/adapted.sh FOLDER OUT"}
here=$(cd "$(dirname "$0")" && pwd)
data=$out/dataset
mkdir -p "$out"

# shellcheck disable=SC2086
[ -e "$data/manifest.csv" ] || samsemi prepare "$folder/images" --masks "$folder/masks" --out "$data" $PREPARE
samsemi warmstart "$data" --out "$out/warm" --size "$SIZE" --encoder "$ENCODER" --decoder-channels "$DECODER" \
    --iterations "$ITERATIONS" --folds "$FOLDS" --resume
# shellcheck disable=SC2086
samsemi adapt "$data" --sam "$SAM" ${SAM_CHECKPOINT:+--sam-checkpoint "$SAM_CHECKPOINT"} --out "$out/adapted.safetensors" --precision "$PRECISION" $ADAPT --resume
# shellcheck disable=SC2086
samsemi adapt "$data" --sam "$SAM" ${SAM_CHECKPOINT:+--sam-checkpoint "$SAM_CHECKPOINT"} --model "$out/warm" --out "$out/mending.safetensors" --precision "$PRECISION" $ADAPT --resume

accept_all="--min-confidence 0 --min-predicted-iou 0 --min-stability 0 --min-agreement 0 --min-quality 0 --sam-share 1"
for name in own plain adapted mending; do
    sam=("$SAM")
    case $name in
        own) sam=(none) ;;
        plain) [ -z "${SAM_CHECKPOINT:-}" ] || sam+=(--sam-checkpoint "$SAM_CHECKPOINT") ;;
        *) sam+=(--sam-checkpoint "$out/$name.safetensors") ;;
    esac
    for split in val test; do
        [ "$name" = own ] || [ -s "$out/$name-$split.json" ] ||
            samsemi adapt "$data" --sam "${sam[@]}" --model "$out/warm" --evaluate --split "$split" --quiet --json >"$out/$name-$split.json"
    done
    samsemi mine "$data" --model "$out/warm" --out "$out/$name.h5" --sam "${sam[@]}" --embeddings "$out/$name-embeddings.h5" --resume --quiet
    for policy in default all; do
        # shellcheck disable=SC2046
        [ -s "$out/$name-$policy/metrics.json" ] || samsemi eval "$data" --store "$out/$name.h5" --out "$out/$name-$policy" --overlays 0 \
            $([ "$policy" = all ] && echo "$accept_all") $([ "$policy" = all ] && [ "$name" != own ] && echo --against "$out/own-all") --quiet
    done
done
python3 "$here/adapted_table.py" "$out"

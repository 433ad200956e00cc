# Makes the shipped base model again: `snakemake pretrain --cores all` (about 40 minutes on 2 cores).

SHARDS = 8


rule pretrain:
    input:
        expand("<results>/pretrain/{part}", part=["model.safetensors", "words.json"]),


rule corpus:
    output:
        temp("<results>/pretrain/corpus/{shard}.safetensors"),
    log:
        "<results>/pretrain/logs/corpus/{shard}.log",
    benchmark:
        "<results>/pretrain/benchmarks/corpus/{shard}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, copies=0),
        runtime=30,
    message:
        "Image-caption corpus, shard {wildcards.shard}"
    shell:
        "python -m tally corpus --pictures 50000 --resolution 30 --seed {wildcards.shard} --output {output} 2> {log}"


rule pretrain_base:
    input:
        config="<resources>/mini-clip/open_clip_config.json",
        corpus=expand("<results>/pretrain/corpus/{shard}.safetensors", shard=range(SHARDS)),
    output:
        model="<results>/pretrain/model.safetensors",
        words="<results>/pretrain/words.json",
    log:
        "<results>/pretrain/logs/pretrain.log",
    benchmark:
        "<results>/pretrain/benchmarks/pretrain.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 2
    resources:
        mem_mb=memory(6000, copies=0),
        runtime=240,
    message:
        "Pre-train mini-clip on the corpus"
    shell:
        "python -m tally pretrain --model {input.config} --corpus {input.corpus} --steps 3000 --batch 512 --seed 0"
        " --threads {threads} --output {output.model} --words {output.words} 2> {log}"

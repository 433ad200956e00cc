# A suite's task vectors: merge them, build the TALL masks, count the votes, remove what too few masks want.

MATHEMATICS = ["blocks", "kernels", "merging/__init__", "streaming", "vectors"]


rule merge_vectors:
    input:
        vectors=of_tasks("<store>/task_vectors/{task}.safetensors"),
        base=counted_too,
        code=code(*MATHEMATICS),
        method=method_code,
    output:
        "<store>/{suite}/merged/{method}.safetensors",
    log:
        "<store>/logs/merge_vectors/{suite}/{method}.log",
    benchmark:
        "<store>/benchmarks/merge_vectors/{suite}/{method}.tsv"
    group:
        group_of_merged
    conda:
        "../../envs/merge.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=2, per_task=1),
        runtime=30,
    params:
        options=lambda wildcards: ties_options(wildcards.method),
    message:
        "Merge the task vectors of {wildcards.suite}: {wildcards.method}"
    shell:
        "python -m tally merge-vectors --method {wildcards.method} --vectors {input.vectors} {params.options}"
        " --threads {threads} --output {output} 2> {log}"


rule mask:
    input:
        model="<settings>",
        base="<store>/base.safetensors",
        merged=masked_vector,
        vectors=of_tasks("<store>/task_vectors/{task}.safetensors"),
        heads=of_tasks("<store>/heads/{task}.safetensors"),
        data=of_tasks("<store>/data/{task}.safetensors"),
        code=code(*MATHEMATICS, "evaluate", "masks", *KIND.encoder, "selection"),
    output:
        masks="<store>/{suite}/masks/{method}.safetensors",
        search="<store>/{suite}/masks/{method}.json",
        accuracy="<store>/{suite}/accuracy/tall-{method}.json",
    log:
        "<store>/logs/mask/{suite}/{method}.log",
    benchmark:
        "<store>/benchmarks/mask/{suite}/{method}.tsv"
    wildcard_constraints:
        method="|".join(sorted({row.masks for row in REGISTRY.values() if row.masks})),
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, copies=6, per_task=0.1),  # the task vectors are maps, and the levels on disk
        runtime=minutes(120),
        gpu=GPUS,
    params:
        lambdas=MERGING["lambdas"],
        strict="--strict" if MERGING["tie_rule"] == ">" else "",
        precision=config["precision"],
    message:
        "TALL masks of {wildcards.suite} for {wildcards.method}, lambda per task on validation data"
    shell:
        "python -m tally mask --suite {wildcards.suite} --method {wildcards.method} --model {input.model}"
        " --base {input.base} --merged {input.merged} --vectors {input.vectors} --heads {input.heads}"
        " --data {input.data} --lambdas {params.lambdas} {params.strict} --precision {params.precision}"
        " --threads {threads} --output {output.masks} --search {output.search} --counts {output.accuracy} 2> {log}"


rule vote:
    input:
        masks="<store>/{suite}/masks/{method}.safetensors",
        search="<store>/{suite}/masks/{method}.json",
        vectors=of_tasks("<store>/task_vectors/{task}.safetensors"),
        base=counted_too,
        code=code(*MATHEMATICS, "masks", "votes"),
        method=method_code,
    output:
        votes="<store>/{suite}/votes/{method}.safetensors",
        profile="<store>/{suite}/votes/{method}.json",
    log:
        "<store>/logs/vote/{suite}/{method}.log",
    benchmark:
        "<store>/benchmarks/vote/{suite}/{method}.tsv"
    conda:
        "../../envs/merge.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=4, per_task=1.5),
        runtime=60,
    params:
        options=lambda wildcards: ties_options(wildcards.method),
        strict="--strict" if MERGING["tie_rule"] == ">" else "",
        seed=config["seed"],
    message:
        "Votes of the TALL masks of {wildcards.suite} for {wildcards.method}, and those of chance"
    shell:
        "python -m tally vote --method {wildcards.method} --masks {input.masks} --search {input.search}"
        " --vectors {input.vectors} {params.options} {params.strict} --seed {params.seed} --threads {threads}"
        " --output {output.votes} --profile {output.profile} 2> {log}"


rule consensus:
    input:
        votes=lambda wildcards: f"<store>/{wildcards.suite}/votes/{VOTERS[wildcards.method]}.safetensors",
        profile=lambda wildcards: f"<store>/{wildcards.suite}/votes/{VOTERS[wildcards.method]}.json",
        merged=masked_vector,
        code=code("merging/consensus"),
        random=lambda wildcards: code("merging/random_consensus") if wildcards.method == "random-consensus" else [],
    output:
        "<store>/{suite}/consensus/{method}/k{k}.safetensors",
    log:
        "<store>/logs/consensus/{suite}/{method}-k{k}.log",
    benchmark:
        "<store>/benchmarks/consensus/{suite}/{method}-k{k}.tsv"
    conda:
        "../../envs/merge.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=3),
        runtime=10,
    params:
        seed=lambda wildcards: f"--seed {config['seed']}" if wildcards.method == "random-consensus" else "",
    message:
        "Consensus of {wildcards.suite}: {wildcards.method}, k = {wildcards.k}"
    shell:
        "python -m tally consensus --method {wildcards.method} --k {wildcards.k} --votes {input.votes} --profile {input.profile}"
        " --merged {input.merged} {params.seed} --output {output} 2> {log}"

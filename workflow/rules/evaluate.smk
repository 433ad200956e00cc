# Every candidate through all tasks of its suite: alpha on validation data, then the test data once.


rule evaluate:
    input:
        model="<settings>",
        base="<store>/base.safetensors",
        vector=scaled_vector,
        heads=of_tasks("<store>/heads/{task}.safetensors"),
        data=of_tasks("<store>/data/{task}.safetensors"),
        finetuned=of_tasks("<store>/finetuned/{task}.json"),
        code=code("evaluate", *KIND.encoder, "selection"),
    output:
        "<store>/{suite}/accuracy/{method}.json",
    log:
        "<store>/logs/evaluate/{suite}/{method}.log",
    benchmark:
        "<store>/benchmarks/evaluate/{suite}/{method}.tsv"
    wildcard_constraints:
        method="|".join(name for name, row in REGISTRY.items() if not (row.has_k or row.per_task)),
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, copies=6),
        runtime=minutes(240),
        gpu=GPUS,
    params:
        alpha=lambda wildcards: alpha_options(wildcards.method, wildcards.suite),
        k="",
        precision=config["precision"],
    message:
        "Evaluate {wildcards.method} on {wildcards.suite}"
    shell:
        "python -m tally evaluate --suite {wildcards.suite} --method {wildcards.method} {params.k} --model {input.model}"
        " --base {input.base} --vector {input.vector} --heads {input.heads} --data {input.data}"
        " --finetuned {input.finetuned} {params.alpha} --precision {params.precision} --threads {threads}"
        " --output {output} 2> {log}"


use rule evaluate as evaluate_consensus with:
    input:
        model="<settings>",
        base="<store>/base.safetensors",
        vector="<store>/{suite}/consensus/{method}/k{k}.safetensors",
        heads=of_tasks("<store>/heads/{task}.safetensors"),
        data=of_tasks("<store>/data/{task}.safetensors"),
        finetuned=of_tasks("<store>/finetuned/{task}.json"),
        code=code("evaluate", *KIND.encoder, "selection"),
    output:
        "<store>/{suite}/accuracy/{method}-k{k}.json",
    log:
        "<store>/logs/evaluate/{suite}/{method}-k{k}.log",
    benchmark:
        "<store>/benchmarks/evaluate/{suite}/{method}-k{k}.tsv"
    wildcard_constraints:
        method="|".join(VOTERS),
    params:
        alpha=lambda wildcards: alpha_options(wildcards.method, wildcards.suite),
        k="--k {k}",
        precision=config["precision"],
    message:
        "Evaluate {wildcards.method} with k = {wildcards.k} on {wildcards.suite}"


rule magnitude:
    input:
        model="<settings>",
        base="<store>/base.safetensors",
        merged="<store>/{suite}/merged/task-arithmetic.safetensors",
        vectors=of_tasks("<store>/task_vectors/{task}.safetensors"),
        heads=of_tasks("<store>/heads/{task}.safetensors"),
        data=of_tasks("<store>/data/{task}.safetensors"),
        search="<store>/{suite}/masks/task-arithmetic.json",
        code=code(*MATHEMATICS, "evaluate", "masks", "merging/magnitude", *KIND.encoder),
    output:
        "<store>/{suite}/accuracy/magnitude-{method}.json",
    log:
        "<store>/logs/evaluate/{suite}/magnitude-{method}.log",
    benchmark:
        "<store>/benchmarks/evaluate/{suite}/magnitude-{method}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, copies=6, per_task=1.25),
        runtime=minutes(60),
        gpu=GPUS,
    params:
        options=lambda wildcards: magnitude_options(wildcards.method),
        precision=config["precision"],
    message:
        "Evaluate magnitude {wildcards.method} on {wildcards.suite}"
    shell:
        "python -m tally magnitude --suite {wildcards.suite} --method magnitude-{wildcards.method} --model {input.model}"
        " --base {input.base} --merged {input.merged} --vectors {input.vectors} --heads {input.heads} --data {input.data}"
        " --search {input.search} {params.options} --precision {params.precision} --threads {threads}"
        " --output {output} 2> {log}"

# One file per suite and method, from which every task's model can be restored.


rule bundle:
    input:
        base="<store>/base.safetensors",
        merged=masked_vector,
        masks="<store>/{suite}/masks/{method}.safetensors",
        search="<store>/{suite}/masks/{method}.json",
    output:
        "<store>/{suite}/bundles/{method}.safetensors",
    log:
        "<store>/logs/bundle/{suite}/{method}.log",
    benchmark:
        "<store>/benchmarks/bundle/{suite}/{method}.tsv"
    conda:
        "../../envs/merge.yaml"
    threads: 1
    resources:
        mem_mb=memory(500, copies=3, per_task=0.1),
        runtime=30,
    message:
        "Bundle {wildcards.suite} for {wildcards.method}: base, merged vector and masks in one file"
    shell:
        "python -m tally bundle --method {wildcards.method} --base {input.base} --merged {input.merged}"
        " --masks {input.masks} --search {input.search} --output {output} 2> {log}"

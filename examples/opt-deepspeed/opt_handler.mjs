import { AutoConfig, AutoTokenizer, BaseDeepSpeedHandler, getDsEngine, manualSeed, modelFromConfig } from "shardspeed";

/** TorchServe's DeepSpeed handler for OPT models, line by line: README.md of the repository has the Python beside it. */
export class OptHandler extends BaseDeepSpeedHandler {
  async initialize(ctx) {
    await super.initialize(ctx);
    const { handler } = ctx.modelYamlConfig;
    this.maxLength = Number(handler.max_length);
    this.maxNewTokens = Number(handler.max_new_tokens);
    manualSeed(Number(handler.manual_seed));
    this.tokenizer = await AutoTokenizer.fromPretrained(handler.model_name);
    this.tokenizer.padToken = this.tokenizer.eosToken;
    const config = await AutoConfig.fromPretrained(handler.model_name);
    const model = modelFromConfig(config, { dtype: "float16" });
    this.model = (await getDsEngine(model, ctx)).module;
    this.initialized = true;
  }

  async preprocess(requests) {
    const texts = requests.map((request) => (request.data ?? request.body).toString());
    return this.tokenizer(texts, { maxLength: this.maxLength, padding: true, truncation: true });
  }

  async inference({ inputIds, attentionMask }) {
    // The Python example passes max_length=max_new_tokens, which counts the prompt too. This is what it means.
    const outputs = await this.model.generate(inputIds, { attentionMask, maxNewTokens: this.maxNewTokens });
    return this.tokenizer.batchDecode(outputs, { skipSpecialTokens: true });
  }

  async postprocess(texts) {
    return texts;
  }
}

/** What training and other tools leave beside the weights under the endings of weights. */
const companion =
  /^(optim|scheduler|scaler|training_args|trainer_state|rng_state|random_states|adapter_|tokenizer|vocab|openvino_)/i;

/** Whether a file of this name (without its folder) may hold a model's weights, as far as the name tells. */
export function isWeightName(name: string): boolean {
  return !name.startsWith(".") && !companion.test(name);
}

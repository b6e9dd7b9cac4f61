export type { ArchiveManifest, ManifestModel } from "./manifest.js";
export { type ModelArchive, openArchive } from "./open.js";
export type { ExtractLimits, OpenArchiveOptions } from "./open_options.js";
export { type PackedArchive, packArchive } from "./pack.js";
export type { ArchiveFormat, ArchiveProgress, ArchiveRuntime, PackOptions } from "./pack_options.js";

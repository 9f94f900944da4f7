/**
 * Why a registry did not answer what was asked. `unavailable`: it cannot be told right now, and may be later; `absent`:
 * it does not have it; `refused`: it, or we, will not, however often it is asked. The message holds no secret and no
 * address, and may be shown to whoever wrote the image.
 */
export class RegistryError extends Error {
  override name = "RegistryError";
  readonly reason: "unavailable" | "absent" | "refused";
  constructor(reason: RegistryError["reason"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

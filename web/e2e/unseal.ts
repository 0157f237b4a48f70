// What is pushed, as the device it is for reads it: RFC 8291 on RFC 8188, the receiving side.

import { createDecipheriv, createECDH, type ECDH, hkdfSync, randomBytes } from 'node:crypto'

/** The keys of one subscription. */
export class PushKeys {
  readonly #ecdh: ECDH = createECDH('prime256v1')
  readonly #auth = randomBytes(16)

  constructor() {
    this.#ecdh.generateKeys()
  }

  /** What a server is given of them. */
  toJSON(): { p256dh: string; auth: string } {
    return {
      p256dh: this.#ecdh.getPublicKey('base64url'),
      auth: this.#auth.toString('base64url'),
    }
  }

  /** The text in a body of one record; throws where it is not for these keys. */
  unseal(body: Buffer): string {
    const salt = body.subarray(0, 16)
    const sender = body.subarray(21, 21 + body.readUInt8(20))
    const sealed = body.subarray(21 + sender.length)
    const shared = this.#ecdh.computeSecret(sender)
    const info = Buffer.concat([Buffer.from('WebPush: info\0'), this.#ecdh.getPublicKey(), sender])
    const secret = derive(shared, this.#auth, info, 32)
    const key = derive(secret, salt, Buffer.from('Content-Encoding: aes128gcm\0'), 16)
    const nonce = derive(secret, salt, Buffer.from('Content-Encoding: nonce\0'), 12)
    const decipher = createDecipheriv('aes-128-gcm', key, nonce)
    decipher.setAuthTag(sealed.subarray(-16))
    const record = Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()])
    // The last record ends in 2, and zeros.
    return record.subarray(0, record.lastIndexOf(2)).toString()
  }
}

function derive(secret: Buffer, salt: Buffer, info: Buffer, length: number): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, salt, info, length))
}

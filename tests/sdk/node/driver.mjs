// Plays a story through an unmodified @segment/analytics-node, in a process of its own.
// Reads one JSON object from standard input: host, write_key, tag, story, options.
// Prints one: how many calls were made, and the SDK's errors.
import { readFileSync } from 'node:fs'
import { Analytics } from '@segment/analytics-node'

const order = JSON.parse(readFileSync(0, 'utf8'))
const { tag } = order
const errors = []
const analytics = new Analytics({ writeKey: order.write_key, host: order.host, ...order.options })
analytics.on('error', (error) => errors.push(`${error.code}: ${error.reason}`))

const device = `${tag}-device`
const person = `${tag}-person`

const stories = {
  async purchase () {
    analytics.page({ anonymousId: device, name: 'Home', properties: { step: 0 } })
    analytics.page({ anonymousId: device, category: 'Shop', name: 'Coffee', properties: { step: 1 } })
    analytics.track({ anonymousId: device, event: 'Product Viewed', properties: { step: 2, sku: 'C-1' } })
    analytics.track({ anonymousId: device, event: 'Product Added', properties: { step: 3, sku: 'C-1' } })
    await new Promise((resolve) => setTimeout(resolve, 50)) // nobody signs up at their first sight
    analytics.identify({
      userId: person,
      anonymousId: device,
      traits: { email: `${tag}@shop.example`, name: 'Zoë Grün ☕', address: { city: 'Köln' } }
    })
    const properties = { step: 5, revenue: 14.99, currency: 'EUR', coupon: null }
    for (let copy = 0; copy < 2; copy++) {
      analytics.track({ userId: person, event: 'Order Completed', properties, messageId: `${tag}-order` })
    }
    analytics.screen({ userId: person, category: 'Account', name: 'Orders', properties: { step: 6 } })
    analytics.group({ userId: person, groupId: `${tag}-company`, traits: { name: 'Initech', employees: 329 } })
    analytics.track({
      anonymousId: device, event: 'Newsletter Opened', properties: { step: 8 }, timestamp: new Date('2024-01-01T12:00:00Z')
    })
    return 10
  },
  odd () {
    let deep = { leaf: true }
    for (let level = 0; level < 60; level++) deep = { inner: deep }
    const payloads = [
      { nul: 'a\u0000b' },
      { large: 2 ** 63, small: -(2 ** 70), huge: 1e308, tiny: 5e-324, zero: -0 },
      { nan: NaN, infinity: Infinity, nothing: undefined },
      deep,
      { surrogate: '\ud800' },
      { 'k\u0000ey': 1, '': 'empty name', 'a.b': 1, $x: 2 },
      { long: 'x'.repeat(20000) }
    ]
    payloads.forEach((properties, number) => {
      analytics.track({ userId: person, event: 'Odd', properties, messageId: `${tag}-odd-${number}` })
    })
    return payloads.length
  },
  many () {
    for (let number = 0; number < 250; number++) {
      analytics.track({ userId: person, event: 'Counted', properties: { step: number }, messageId: `${tag}-${number}` })
    }
    return 250
  }
}

const calls = await stories[order.story]()
await analytics.closeAndFlush({ timeout: 60_000 })
console.log(JSON.stringify({ calls, errors }))

// One side of a transfer by a WebRTC data channel (libdatachannel): `webrtc_side.js receive FILE FOLDER`, or `send`.
// Run by udp_tools.py; both sides tell each other what they must know by files in FOLDER.
'use strict'
const fs = require('fs')
const path_ = require('path')
const rtc = require('node-datachannel')

const PIECE = 64 << 10 // the largest message that every implementation takes
const ENOUGH = 4 << 20 // bytes handed over and not sent yet
const [role, path, folder] = process.argv.slice(2)
const peer = new rtc.PeerConnection(role, { iceServers: [], maxMessageSize: PIECE })

function tell (name, value) {
  const place = path_.join(folder, name)
  fs.writeFileSync(place + '.new', JSON.stringify(value))
  fs.renameSync(place + '.new', place)
}

function hear (name, use) {
  const place = path_.join(folder, name)
  const timer = setInterval(() => {
    if (!fs.existsSync(place)) return
    clearInterval(timer)
    use(JSON.parse(fs.readFileSync(place)))
  }, 10)
}

peer.onGatheringStateChange((state) => {
  if (state === 'complete') tell(role, peer.localDescription())
})
hear(role === 'send' ? 'receive' : 'send', ({ sdp, type }) => peer.setRemoteDescription(sdp, type))

function end () {
  peer.close()
  rtc.cleanup()
  process.exit(0)
}

if (role === 'send') {
  const size = fs.statSync(path).size
  const file = fs.openSync(path, 'r')
  const channel = peer.createDataChannel('file')
  let sent = 0
  const next = () => {
    while (sent < size && channel.bufferedAmount() < ENOUGH) {
      const piece = Buffer.allocUnsafe(Math.min(PIECE, size - sent))
      sent += fs.readSync(file, piece)
      channel.sendMessageBinary(piece)
    }
  }
  channel.setBufferedAmountLowThreshold(ENOUGH / 2)
  channel.onBufferedAmountLow(next)
  channel.onOpen(() => {
    channel.sendMessage(String(size))
    next()
  })
  channel.onMessage(end) // it has all
} else {
  console.log('ready')
  peer.onDataChannel((channel) => {
    const file = fs.openSync(path, 'w')
    let begun = 0n
    let missing = -1
    channel.onMessage((piece) => {
      if (missing < 0) {
        missing = Number(piece)
        begun = process.hrtime.bigint()
        return
      }
      missing -= fs.writeSync(file, piece)
      if (!missing) {
        console.log((Number(process.hrtime.bigint() - begun) / 1e9).toFixed(6))
        channel.sendMessage('all')
        setTimeout(end, 500)
      }
    })
  })
}

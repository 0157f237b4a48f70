package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// spinning are the messages on which pion/turn ≤ 5.1.2 spins when it frames a stream: their lengths are 0 in uint16.
var spinning = map[string][]byte{
	"STUN":        {0, 1, 0xff, 0xec, 0x21, 0x12, 0xa4, 0x42, 19: 0},
	"ChannelData": {0x40, 0, 0xff, 0xfc, 19: 0},
}

func TestFrameLength(t *testing.T) {
	tests := []struct {
		header [4]byte
		want   int
		err    error
	}{
		{[4]byte{0, 1, 0, 0}, 20, nil},
		{[4]byte{3, 0xff, 0, 8}, 28, nil},
		{[4]byte{0x3f, 0xff, 0, 8}, 0, ErrFrameShape},
		{[4]byte{0, 1, 0xff, 0xe8}, 65532, nil},
		{[4]byte{0, 1, 0xff, 0xec}, 0, ErrFrameLength},
		{[4]byte{0, 1, 0xff, 0xfc}, 0, ErrFrameLength},
		{[4]byte{0, 1, 0, 7}, 0, ErrFrameShape},
		{[4]byte{0x40, 0, 0, 0}, 4, nil},
		{[4]byte{0x4f, 0xff, 0, 1}, 8, nil},
		{[4]byte{0x40, 0, 0, 4}, 8, nil},
		{[4]byte{0x40, 0, 0xff, 0xf8}, 65532, nil},
		{[4]byte{0x40, 0, 0xff, 0xf9}, 0, ErrFrameLength},
		{[4]byte{0x40, 0, 0xff, 0xff}, 0, ErrFrameLength},
		{[4]byte{0x7f, 0xff, 0, 4}, 8, nil},
		{[4]byte{'G', 'E', 'T', ' '}, 21540, nil},  // a channel, to all appearances
		{[4]byte{0x16, 3, 1, 2}, 0, ErrFrameShape}, // TLS
		{[4]byte{0x16, 3, 1, 0}, 0, ErrFrameShape},
		{[4]byte{0x80, 0, 0, 4}, 0, ErrFrameShape},
		{[4]byte{0xff, 0xff, 0xff, 0xff}, 0, ErrFrameShape},
	}
	for _, test := range tests {
		got, err := FrameLength(test.header)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("FrameLength(%x) = %d, %v, want %d, %v", test.header, got, err, test.want, test.err)
		}
	}
}

func TestReadFrame(t *testing.T) {
	binding := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	data := []byte{0x40, 0, 0, 3, 'a', 'b', 'c', 0}
	long := append([]byte{0x40, 0, 0x10, 0}, make([]byte, 0x1000)...)
	r := bytes.NewReader(bytes.Join([][]byte{binding, data, long, binding}, nil))
	b := make([]byte, 100)
	for i, want := range [][]byte{binding, data, {}, binding} {
		n, err := ReadFrame(r, b)
		if err != nil || !bytes.Equal(b[:n], want) {
			t.Fatalf("frame %d = %x, %v, want %x", i, b[:n], err, want)
		}
	}
	if n, err := ReadFrame(bytes.NewReader(data[:6]), b); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a frame = %d, %v, want %v", n, err, io.ErrUnexpectedEOF)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 3, 'a', 'b', 'c', 0, 0x40, 0, 0, 0})
	for _, frame := range spinning {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		b := make([]byte, 2048)
		for left := r.Len(); ; left = r.Len() {
			n, err := ReadFrame(r, b)
			if err != nil {
				return
			}
			if r.Len() >= left {
				t.Fatal("no progress")
			}
			if n != 0 && n != left-r.Len() {
				t.Fatalf("frame of %d bytes took %d", n, left-r.Len())
			}
			if frame := b[:n]; n != 0 && b[0] >= 0x40 && !IsChannelData(frame) {
				t.Fatalf("frame %x is no ChannelData", frame)
			}
		}
	})
}

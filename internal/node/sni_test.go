package node_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/visavis/visavis/internal/certificate"
	"github.com/visavis/visavis/internal/node"
	"github.com/visavis/visavis/internal/relay"
	"github.com/visavis/visavis/test/frontproxy"
)

// TestRelayBehindServerNames runs a whole node behind the documented HAProxy, which divides one port by server name. A
// client of the relay is told its own address where the proxy sends the PROXY protocol. Else the log warns.
func TestRelayBehindServerNames(t *testing.T) {
	source, err := certificate.SelfSigned(t.TempDir(), func() []netip.Addr { return nil })
	if err != nil {
		t.Fatal(err)
	}
	pair, err := source.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	for says, want := range map[string]string{"send-proxy-v2": "127.0.0.7", "send-proxy": "127.0.0.7", "": "127.0.0.1"} {
		t.Run("proxy "+says, func(t *testing.T) {
			cfg := node.DefaultConfig()
			cfg.Listen, cfg.Data, cfg.Access, cfg.TLS.Mode = free, t.TempDir(), node.AccessOpen, node.TLSSelfSigned
			cfg.Origins, cfg.Proxies = urls(t, "https://video.example.org"), []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			cfg.Relay.Listen, cfg.Relay.Address, cfg.Relay.Secret = node.MustParseAddress("0.0.0.0:0"), netip.MustParseAddr("127.0.0.1"), shared
			cfg.Relay.TLSListen, cfg.Relay.TLSName = free, "turn.example.org"
			log := new(heard)
			n, err := node.New(cfg, slog.New(slog.NewTextHandler(io.MultiWriter(log, t.Output()), nil)))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- n.Run(ctx) }()
			defer func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}()
			var relayed string
			for _, url := range n.RelayURLs() {
				if at, secure := strings.CutPrefix(url, "turns:turn.example.org"); secure {
					relayed = "127.0.0.1" + strings.TrimSuffix(at, "?transport=tcp")
				}
			}
			folder, listen := t.TempDir(), frontproxy.FreeAddress(t)
			block := frontproxy.Documented(t, "HAProxy, with TURN over TLS on the same port:", "bind :443", "bind "+listen.String(),
				"127.0.0.1:8444", frontproxy.FreeAddress(t).String(), "/etc/ssl/video.example.org/haproxy.pem", folder+"/both.pem",
				"127.0.0.1:8443", strings.Replace(strings.TrimPrefix(n.URL(), "https://"), "localhost", "127.0.0.1", 1),
				"127.0.0.1:5349 send-proxy-v2", relayed+" "+says)
			config := filepath.Join(folder, "config")
			frontproxy.Start(t, "haproxy", folder, map[string][]byte{"both.pem": both, "config": []byte(block)}, "-db", "-f", config)

			pages := frontproxy.Through(t, listen, "127.0.0.7", "video.example.org")
			if _, err := io.WriteString(pages, "GET /readyz HTTP/1.1\r\nHost: video.example.org\r\nConnection: close\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if answer, err := http.ReadResponse(bufio.NewReader(pages), nil); err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("a page's request: %v, %v", answer, err)
			} else {
				_ = answer.Body.Close()
			}

			client := frontproxy.Through(t, listen, "127.0.0.7", "turn.example.org")
			mapped := allocateOver(t, client, relay.Issue(node.RelayKey(shared), "uann", "n1-call", "uann", time.Now(), time.Hour))
			if mapped.IP.String() != want {
				t.Errorf("the allocation is told to be of %s, want %s", mapped.IP, want)
			}
			if warned := strings.Contains(log.String(), "does not tell the client's address"); warned != (says == "") {
				t.Errorf("warned: %v, want %v", warned, says == "")
			}
		})
	}
}

// allocateOver makes an allocation over a stream and returns the address that its client is told to have.
func allocateOver(t *testing.T, stream io.ReadWriter, c relay.Credentials) (mapped stun.XORMappedAddress) {
	t.Helper()
	exchange := func(more ...stun.Setter) *stun.Message {
		request := stun.MustBuild(append([]stun.Setter{
			stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest),
			stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}},
		}, more...)...)
		if _, err := stream.Write(request.Raw); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 20)
		if _, err := io.ReadFull(stream, answer); err != nil {
			t.Fatal(err)
		}
		answer = append(answer, make([]byte, binary.BigEndian.Uint16(answer[2:]))...)
		if _, err := io.ReadFull(stream, answer[20:]); err != nil {
			t.Fatal(err)
		}
		m := &stun.Message{Raw: answer}
		if err := m.Decode(); err != nil || !bytes.Equal(m.TransactionID[:], request.TransactionID[:]) {
			t.Fatalf("answer %v, %v", m, err)
		}
		return m
	}
	challenge := exchange()
	var realm stun.Realm
	var nonce stun.Nonce
	if err := challenge.Parse(&realm, &nonce); err != nil {
		t.Fatalf("%v: %v", challenge, err)
	}
	success := exchange(stun.NewUsername(c.Username), realm, nonce, stun.NewLongTermIntegrity(c.Username, realm.String(), c.Password))
	if err := mapped.GetFrom(success); err != nil || success.Type.Class != stun.ClassSuccessResponse {
		t.Fatalf("%v: %v", success, err)
	}
	return mapped
}

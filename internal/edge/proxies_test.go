package edge

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/visavis/visavis/protocol"
	"github.com/visavis/visavis/test/frontproxy"
)

// proxy is a program that docs/install.md tells how to put in front.
type proxy struct {
	name, command string
	// configure makes a configuration of the documented block, in folder, for a server at backend.
	configure func(t *testing.T, folder string, listen netip.AddrPort, backend string) string
	arguments func(configuration string) []string
}

var proxyPrograms = []proxy{
	{"nginx", "nginx", func(t *testing.T, folder string, listen netip.AddrPort, backend string) string {
		block := frontproxy.Documented(t, "nginx:", "listen 443", "listen "+listen.String(), "http://localhost:8080", "http://"+backend,
			"/etc/ssl/video.example.org/fullchain.pem", folder+"/cert.pem", "/etc/ssl/video.example.org/privkey.pem", folder+"/key.pem")
		return "daemon off;\nmaster_process off;\npid " + folder + "/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n" +
			"client_body_temp_path " + folder + "/a;\nproxy_temp_path " + folder + "/b;\nfastcgi_temp_path " + folder + "/c;\n" +
			"uwsgi_temp_path " + folder + "/d;\nscgi_temp_path " + folder + "/e;\n" + block + "}\n"
	}, func(file string) []string { return []string{"-e", "stderr", "-c", file} }},
	{"HAProxy", "haproxy", func(t *testing.T, folder string, listen netip.AddrPort, backend string) string {
		return frontproxy.Documented(t, "HAProxy:", "bind :443", "bind "+listen.String(),
			"/etc/ssl/video.example.org/haproxy.pem", folder+"/both.pem", "127.0.0.1:8080", backend)
	}, func(file string) []string { return []string{"-db", "-f", file} }},
	{"HAProxy by server name", "haproxy", func(t *testing.T, folder string, listen netip.AddrPort, backend string) string {
		return frontproxy.Documented(t, "HAProxy, with TURN over TLS on the same port:", "bind :443", "bind "+listen.String(),
			"127.0.0.1:8444", frontproxy.FreeAddress(t).String(), "/etc/ssl/video.example.org/haproxy.pem", folder+"/both.pem",
			"127.0.0.1:8443 ssl verify none", backend)
	}, func(file string) []string { return []string{"-db", "-f", file} }},
	{"Caddy", "caddy", func(t *testing.T, _ string, listen netip.AddrPort, backend string) string {
		return fmt.Sprintf("{\nadmin off\nlocal_certs\nskip_install_trust\nauto_https disable_redirects\nhttps_port %d\n}\n", listen.Port()) +
			frontproxy.Documented(t, "Caddy:", "localhost:8080", backend)
	}, func(file string) []string { return []string{"run", "--adapter", "caddyfile", "--config", file} }},
}

// The documented blocks work with the real programs: pages and WebSockets pass, and the
// server knows each visitor's own address, whatever X-Forwarded-For the visitor sends.
func TestDocumentedProxies(t *testing.T) {
	certificate := selfSigned(t)
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})

	s := serve(t, func(c *Config) {
		c.Origins = []string{"https://video.example.org"}
		c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	routes := s.routes()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whence" {
			_, _ = io.WriteString(w, s.clientAddr(r).String())
			return
		}
		routes.ServeHTTP(w, r)
	}))
	defer backend.Close()

	for _, p := range proxyPrograms {
		t.Run(p.name, func(t *testing.T) {
			folder, listen := t.TempDir(), frontproxy.FreeAddress(t)
			frontproxy.Start(t, p.command, folder, map[string][]byte{
				"cert.pem": certPEM, "key.pem": keyPEM, "both.pem": append(append([]byte{}, certPEM...), keyPEM...),
				"config": []byte(p.configure(t, folder, listen, backend.Listener.Addr().String())),
			}, p.arguments(filepath.Join(folder, "config"))...)

			for visitor, forged := range map[string]string{"127.0.0.7": "", "127.0.0.8": "198.51.100.9", "127.0.0.9": "198.51.100.9, 127.0.0.1"} {
				conn := frontproxy.Through(t, listen, visitor, "video.example.org")
				_, err := fmt.Fprintf(conn, "GET /whence HTTP/1.1\r\nHost: video.example.org\r\nX-Forwarded-For: %s\r\nConnection: close\r\n\r\n", forged)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(answer.Body)
				_ = answer.Body.Close()
				if string(body) != visitor {
					t.Errorf("%s, who says %q, seems to come from %s (%s)", visitor, forged, body, answer.Status)
				}
				_ = conn.Close()
			}

			conn := frontproxy.Through(t, listen, "127.0.0.7", "video.example.org")
			r := &rawWebSocket{conn, bufio.NewReader(conn)}
			_, err = io.WriteString(conn, "GET /v1/signal HTTP/1.1\r\nHost: video.example.org\r\nOrigin: https://video.example.org\r\n"+
				"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(r.in, nil) //nolint:bodyclose // a WebSocket's answer has none
			if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("no WebSocket: %v, %v", answer, err)
			}
			if _, err := conn.Write(frame(0x81, `{"type":"hello","version":2,"name":"Ann"}`)); err != nil {
				t.Fatal(err)
			}
			if code, err := r.closed(); code != protocol.CloseRefused { // of version 2: its hello came, and the answer comes back
				t.Errorf("closed with %d, %v", code, err)
			}
			_ = conn.Close()
		})
	}
}

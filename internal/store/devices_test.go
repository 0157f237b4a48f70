package store_test

import (
	"crypto/rand"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/visavis/visavis/internal/outbox"
	"github.com/visavis/visavis/protocol"
)

func TestPushDevices(t *testing.T) {
	suite(t, func(t *testing.T, db database) {
		s, _ := open(t, db)
		at := func(seconds int) time.Time { return time.Unix(1_790_000_000+int64(seconds), 0).UTC() }
		device := func(user protocol.UserID, name, endpoint string, seconds int) outbox.Device {
			return outbox.Device{
				User: protocol.User{ID: user, Name: name}, Endpoint: endpoint,
				Key: []byte{4, 0, 255}, Auth: []byte{1, 2}, CreatedAt: at(seconds), RenewedAt: at(seconds),
			}
		}
		keep := func(d outbox.Device) {
			t.Helper()
			if err := s.Devices.Keep(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(what string, want ...outbox.Device) {
			t.Helper()
			got, err := s.Devices.All(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		expect("none")

		long := "https://push.example.org/"
		for len(long) < 2<<10 { // nothing that an index could compress
			long += rand.Text()
		}
		phone, laptop, other := device("bob", "Bob", "https://p/1", 1), device("bob", "Bob", long, 2), device("ann", "Ann\x00", "https://p/2", 3)
		keep(phone)
		keep(laptop)
		keep(other)
		other.User.Name = "Ann\uFFFD"
		expect("the oldest first", phone, laptop, other)

		phone.DoNotDisturb, phone.User.Name, phone.Key, phone.RenewedAt = true, "Bobby", []byte{4, 7}, at(9)
		renewed := phone
		renewed.CreatedAt = at(9)
		keep(renewed)
		laptop.DoNotDisturb, laptop.User.Name = true, "Bobby"
		expect("renewed; name and wish are the user's", laptop, other, phone)

		moved := device("ann", "Ann", phone.Endpoint, 10)
		keep(moved)
		moved.CreatedAt, other.User.Name = at(1), "Ann"
		expect("moved to another user", laptop, other, moved)

		for range 2 {
			if err := s.Devices.Forget(t.Context(), laptop.Endpoint); err != nil {
				t.Fatal(err)
			}
		}
		expect("forgotten", other, moved)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, _ = open(t, db)
		expect("after a restart", other, moved)
	})
}

// A CSI driver for tests: each volume is an ext4 image on the node's disk, each snapshot a copy of one, taken while its file
// system is frozen, so that it is of one moment.
//
//	csi-driver -root FOLDER -kubelet FOLDER -node NAME
//
// While FOLDER/fail exists, snapshots fail with the text that is in it. While FOLDER/late exists, they are taken and not ready.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const name = "snapshots.testbed.local"

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedGroupControllerServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	root, node, endpoint string
	// One call at a time: nothing here is in a hurry.
	mutex sync.Mutex
}

func main() {
	root := flag.String("root", "", "where volumes and snapshots are kept")
	kubelet := flag.String("kubelet", "", "the kubelet's root folder")
	node := flag.String("node", "", "name of the node")
	flag.Parse()
	d := &driver{root: *root, node: *node, endpoint: filepath.Join(*kubelet, "plugins", name, "csi.sock")}
	for _, folder := range []string{d.root, filepath.Dir(d.endpoint)} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			log.Fatal(err)
		}
	}
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, d)
	csi.RegisterControllerServer(server, d)
	csi.RegisterGroupControllerServer(server, d)
	csi.RegisterNodeServer(server, d)
	go serve(server, d.endpoint)
	// The kubelet finds the driver by this socket.
	kubelets := grpc.NewServer()
	registration.RegisterRegistrationServer(kubelets, d)
	serve(kubelets, filepath.Join(*kubelet, "plugins_registry", name+"-reg.sock"))
}

func serve(server *grpc.Server, socket string) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		log.Fatal(err)
	}
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listener))
}

// The file of a volume or snapshot. An id is the name that the sidecar chose, which has no slash.
func (d *driver) file(id, suffix string) string {
	return filepath.Join(d.root, filepath.Base(id)+suffix)
}

func run(command ...string) error {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, out)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

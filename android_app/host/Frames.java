import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassVisitor;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;

/**
 * Makes Java 8's classes of Java 5's, which enjarify writes and in which an interface has no code: the version, the stack maps that the JVM
 * then verifies each method by, and calls of an interface's code that say so.
 *
 * <pre>java -cp asm.jar Frames.java IN.jar OUT.jar</pre>
 */
public class Frames {
    private static final String OBJECT = "java/lang/Object";

    /** Where classes are read, and never loaded: as Java 5's, many could not be. */
    private final ClassLoader files;

    private Frames(ClassLoader files) {
        this.files = files;
    }

    public static void main(String[] names) throws IOException {
        Path in = Path.of(names[0]);
        try (ZipFile jar = new ZipFile(in.toFile());
                OutputStream file = Files.newOutputStream(Path.of(names[1]));
                ZipOutputStream out = new ZipOutputStream(file);
                URLClassLoader files = new URLClassLoader(new URL[] {in.toUri().toURL()})) {
            Frames frames = new Frames(files);
            for (ZipEntry entry : jar.stream().toList()) {
                out.putNextEntry(new ZipEntry(entry.getName()));
                out.write(frames.newer(jar.getInputStream(entry).readAllBytes()));
                out.closeEntry();
            }
        }
    }

    private byte[] newer(byte[] code) {
        ClassWriter writer = new ClassWriter(ClassWriter.COMPUTE_FRAMES) {
            @Override
            protected String getCommonSuperClass(String one, String other) {
                List<String> parents = parents(other);
                return parents(one).stream().filter(parents::contains).findFirst().orElse(OBJECT);
            }
        };
        new ClassReader(code).accept(new Newer(writer), ClassReader.SKIP_FRAMES);
        return writer.toByteArray();
    }

    private class Newer extends ClassVisitor {
        Newer(ClassVisitor next) {
            super(Opcodes.ASM9, next);
        }

        @Override
        public void visit(int version, int access, String name, String signature, String parent, String[] interfaces) {
            super.visit(Opcodes.V1_8, access, name, signature, parent, interfaces);
        }

        @Override
        public MethodVisitor visitMethod(int access, String name, String type, String signature, String[] exceptions) {
            return new MethodVisitor(Opcodes.ASM9, super.visitMethod(access, name, type, signature, exceptions)) {
                @Override
                public void visitMethodInsn(int call, String owner, String method, String takes, boolean isInterface) {
                    boolean ofCode = call == Opcodes.INVOKESPECIAL || call == Opcodes.INVOKESTATIC;
                    super.visitMethodInsn(call, owner, method, takes, isInterface || ofCode && isInterface(owner));
                }
            };
        }
    }

    /** A class and those above it, from itself up; an interface is an object. */
    private List<String> parents(String name) {
        List<String> found = new ArrayList<>();
        for (String next = name; next != null && !isInterface(next); ) {
            found.add(next);
            ClassReader reader = read(next);
            next = reader == null ? OBJECT.equals(next) ? null : OBJECT : reader.getSuperName();
        }
        return found;
    }

    private boolean isInterface(String name) {
        ClassReader reader = read(name);
        return reader != null && (reader.getAccess() & Opcodes.ACC_INTERFACE) != 0;
    }

    /** Null for what is not on this machine: Android's own classes. */
    private ClassReader read(String name) {
        try (InputStream file = files.getResourceAsStream(name + ".class")) {
            return file == null ? null : new ClassReader(file.readAllBytes());
        } catch (IOException error) {
            throw new IllegalStateException(name, error);
        }
    }
}
